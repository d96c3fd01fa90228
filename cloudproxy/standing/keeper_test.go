package standing_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
	"github.com/skerry-io/skerry/cloudproxy/standing"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// world is the CAs, and edges that do what they are told.
type world struct {
	t *testing.T

	mu      sync.Mutex // guards the following fields
	state   *rotation.State
	changed chan struct{}
	news    chan struct{}
	edges   map[string]*edge
}

type edge struct {
	csr    []byte
	leaf   *x509.Certificate // on the disk
	shown  *x509.Certificate // at the last handshake
	trusts []*x509.Certificate
	asked  int
	answer func(said *certs.CAState) // nil: the truth
	deaf   bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, changed: make(chan struct{}), news: make(chan struct{}), edges: make(map[string]*edge)}
	w.state = &rotation.State{CA: newCA(t)}
	return w
}

func newCA(t *testing.T) *issuer.CA {
	t.Helper()
	ca, err := issuer.NewCA("cluster")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func (w *world) sign(node string, csr []byte) *x509.Certificate {
	w.t.Helper()
	text, err := w.state.Signer().SignEdge(csr, certs.Identity{Cluster: "cluster", Node: node}, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := certs.ParseBundle(text)
	if err != nil {
		w.t.Fatal(err)
	}
	return list[0]
}

func (w *world) join(node string) *edge {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	e := &edge{csr: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), trusts: w.state.Trusted()}
	e.leaf = w.sign(node, e.csr)
	e.shown = e.leaf
	w.edges[node] = e
	w.bumpLocked()
	return e
}

func (w *world) bumpLocked() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// step takes the rotation one on.
func (w *world) step(f func(*rotation.State) (*rotation.State, error)) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	next, err := f(w.state)
	if err != nil {
		w.t.Fatal(err)
	}
	w.state = next
	close(w.news)
	w.news = make(chan struct{})
}

func (w *world) asked(node string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.edges[node].asked
}

// cas is the world as standing.CAs.
type cas struct{ *world }

func (c cas) State() *rotation.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c cas) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.news
}

func (w *world) Sessions() []standing.Session {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []standing.Session
	for node, e := range w.edges {
		list = append(list, standing.Session{Node: node, Certificate: e.shown})
	}
	return list
}

func (w *world) Session(node string) (standing.Session, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.edges[node]
	if e == nil {
		return standing.Session{}, false
	}
	return standing.Session{Node: node, Certificate: e.shown}, true
}

func (w *world) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *world) DialEdge(_ context.Context, node string, kind wire.Kind) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.edges[node]
	e.asked++
	if kind != wire.KindRenewal || e.deaf {
		return nil, errors.New("no such stream")
	}
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		var told certs.CANews
		if err := json.NewDecoder(there).Decode(&told); err != nil {
			return
		}
		w.mu.Lock()
		if !told.Meets(e.trusts, e.leaf) {
			e.trusts, e.leaf = w.state.Trusted(), w.sign(node, e.csr)
		}
		said := certs.CAState{Certificate: string(certs.EncodeBundle([]*x509.Certificate{e.leaf})), Trusted: certs.Fingerprints(e.trusts)}
		if e.answer != nil {
			e.answer(&said)
		}
		w.mu.Unlock()
		_ = json.NewEncoder(there).Encode(said)
	}()
	return here, nil
}

func run(t *testing.T, w *world) *standing.Keeper {
	t.Helper()
	k, err := standing.New(standing.Config{Edges: w, CAs: cas{w}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return k
}

func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's time
	synctest.Wait()
}

func (w *world) stands(k *standing.Keeper, step, node string, signer *issuer.CA, trusts ...*issuer.CA) {
	w.t.Helper()
	note, ok := k.Note(node)
	var want []string
	for _, ca := range trusts {
		want = append(want, certs.Fingerprint(ca.Certificate()))
	}
	if !ok || note.CA != signer.Hash().String() || !certs.SameSet(note.Trusts, want) {
		w.t.Errorf("%s: %s stands as %+v", step, node, note)
	}
}

// TestRotation brings edges in line at each step, asks those that are, once, and nobody
// while there was no rotation.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.state.CA, newCA(t)
		w.join("one")
		w.join("two")
		k := run(t, w)
		pass(2 * time.Hour)
		if n := w.asked("one"); n != 0 {
			t.Errorf("asked %d times before any rotation", n)
		}
		w.stands(k, "idle", "one", a)
		w.step(func(s *rotation.State) (*rotation.State, error) { return s.Add(b, false) })
		pass(5 * time.Second)
		w.stands(k, "trust", "one", a, a, b)
		w.step((*rotation.State).Move)
		pass(5 * time.Second)
		w.stands(k, "move", "one", b, a, b)
		w.step(func(s *rotation.State) (*rotation.State, error) { return s.Drop(false) })
		pass(5 * time.Second)
		w.stands(k, "done", "one", b, b)
		w.stands(k, "done", "two", b, b)
		pass(24 * time.Hour)
		if n := w.asked("one"); n != 3 {
			t.Errorf("asked %d times in a rotation and a day after", n)
		}
	})
}

// TestStubborn edges are asked again, seldom, and those that come are asked.
func TestStubborn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.state.CA, newCA(t)
		w.join("deaf").deaf = true
		w.join("liar").answer = func(said *certs.CAState) {
			said.Certificate = string(certs.EncodeBundle([]*x509.Certificate{w.edges["deaf"].leaf}))
		}
		w.join("windy").answer = func(said *certs.CAState) { said.Trusted = slices.Repeat(said.Trusted, 20) }
		late := w.join("late")
		w.mu.Lock()
		delete(w.edges, "late")
		w.mu.Unlock()
		k := run(t, w)
		w.step(func(s *rotation.State) (*rotation.State, error) { return s.Add(b, false) })
		w.step((*rotation.State).Move)
		pass(10 * time.Minute)
		for _, node := range []string{"deaf", "liar", "windy"} {
			if n := w.asked(node); n < 8 || n > 12 {
				t.Errorf("%s was asked %d times in ten minutes", node, n)
			}
			w.stands(k, "not in line", node, a)
		}
		w.mu.Lock()
		w.edges["late"] = late
		w.bumpLocked()
		w.mu.Unlock()
		if note, ok := k.Note("late"); ok {
			t.Errorf("before it was asked: %+v", note)
		}
		pass(5 * time.Second)
		w.stands(k, "back", "late", b, a, b)
	})
}

// TestRenewed: after a renewal of its own an edge is asked once what it has, so that the
// end is known of the certificate that it would show.
func TestRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.join("one")
		k := run(t, w)
		pass(20 * 24 * time.Hour)
		w.mu.Lock()
		e.leaf = w.sign("one", e.csr)
		w.mu.Unlock()
		k.Renewed("one")
		pass(time.Minute)
		if note, _ := k.Note("one"); time.Until(note.NotAfter) < 29*24*time.Hour || w.asked("one") != 1 {
			t.Errorf("%+v after %d questions", note, w.asked("one"))
		}
		pass(24 * time.Hour)
		if n := w.asked("one"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestReadNote(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
	if _, err := standing.ReadNote(node); !errors.Is(err, standing.ErrNoNote) || standing.Key(node) != "" {
		t.Error("a Node without a note", err)
	}
	node.Annotations[standing.Annotation] = "{"
	if _, err := standing.ReadNote(node); !errors.Is(err, standing.ErrNoNote) || standing.Key(node) != "" {
		t.Error("a garbled note", err)
	}
	want := standing.Note{CA: "a", Key: "k", NotAfter: time.Now().UTC().Truncate(time.Second), Trusts: []string{"a"}}
	node.Annotations[standing.Annotation] = want.String()
	if got, err := standing.ReadNote(node); err != nil || got.Key != "k" || !got.NotAfter.Equal(want.NotAfter) || standing.Key(node) != "k" {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzReadNote: a Node is written by many.
func FuzzReadNote(f *testing.F) {
	f.Add(standing.Note{CA: "a", Key: "k"}.String())
	f.Add(`{"trusts":[null,1]}`)
	f.Fuzz(func(t *testing.T, text string) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{standing.Annotation: text}}}
		if _, err := standing.ReadNote(node); err != nil && standing.Key(node) != "" {
			t.Errorf("a key out of %q", text)
		}
	})
}
