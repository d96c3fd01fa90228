package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/cloudproxy/standing"
)

// rotation of a cluster with edges that follow, as long as they are connected.
type caWorld struct {
	t      *testing.T
	client *fake.Clientset
	joined time.Time

	mu     sync.Mutex // guards the following field
	online map[string]bool
}

func newCAWorld(t *testing.T) *caWorld {
	t.Helper()
	w := &caWorld{t: t, online: make(map[string]bool), joined: time.Now().Add(-time.Hour).UTC()}
	w.client = fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "uid-1"}})
	svc, err := enroll.New(enroll.Config{Client: w.client, Advertise: []string{"proxy.example.com:7443"}})
	if err == nil {
		err = svc.Prepare(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *caWorld) state() *rotation.State {
	w.t.Helper()
	secret, err := w.client.CoreV1().Secrets(enroll.DefaultNamespace).Get(w.t.Context(), rotation.SecretName, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	state, err := rotation.Parse(secret)
	if err != nil {
		w.t.Fatal(err)
	}
	return state
}

// edge adds one, or has one come or go.
func (w *caWorld) edge(name string, online bool) {
	w.t.Helper()
	w.mu.Lock()
	w.online[name] = online
	w.mu.Unlock()
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue}
	if !online {
		ready.Status = corev1.ConditionUnknown
	}
	nodes := w.client.CoreV1().Nodes()
	node, err := nodes.Get(w.t.Context(), name, metav1.GetOptions{})
	if err == nil {
		node.Status.Conditions = []corev1.NodeCondition{ready}
		_, err = nodes.Update(w.t.Context(), node, metav1.UpdateOptions{})
	} else {
		node = &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Labels: map[string]string{report.LabelEdge: "true"},
				Annotations: map[string]string{report.AnnotationOwner: "cloudproxy"},
			},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{ready}},
		}
		w.note(node)
		_, err = nodes.Create(w.t.Context(), node, metav1.CreateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *caWorld) note(node *corev1.Node) {
	news := w.state().News()
	node.Annotations[standing.Annotation] = standing.Note{CA: news.Signer, Key: "key of " + node.Name, Joined: w.joined, Trusts: news.Trusted}.String()
}

// follow is the proxy, which brings those that are connected in line.
func (w *caWorld) follow(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
			return
		}
		list, err := w.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return
		}
		for i := range list.Items {
			node := &list.Items[i]
			w.mu.Lock()
			online := w.online[node.Name]
			w.mu.Unlock()
			if !online {
				continue
			}
			w.note(node)
			_, _ = w.client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		}
	}
}

func (w *caWorld) skerry(args ...string) (string, error) {
	w.t.Helper()
	c := &cluster{namespace: enroll.DefaultNamespace, connect: func(cluster) (kubernetes.Interface, error) { return w.client, nil }}
	cmd := group("ca", "", newCAStatus(c), newCARotate(c))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(w.t.Context())
	return out.String(), err
}

func inCAWorld(t *testing.T, f func(t *testing.T, w *caWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newCAWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.follow(ctx)
		f(t, w)
	})
}

// TestCARotate with an edge that is off: the old CA stays until it is back, or forced.
func TestCARotate(t *testing.T) {
	inCAWorld(t, func(t *testing.T, w *caWorld) { //nolint:thelper // it is the test
		w.edge("near", true)
		w.edge("far", true)
		w.edge("quarry", false)
		before := w.state()
		out, err := w.skerry("rotate")
		if err == nil || !strings.Contains(err.Error(), "quarry") || strings.Contains(err.Error(), "near") || !strings.Contains(err.Error(), "--force") {
			t.Errorf("with an edge that is off: %v\n%s", err, out)
		}
		if s := w.state(); s.Phase != rotation.Move || s.CA.Hash() != before.CA.Hash() {
			t.Fatalf("it stopped in phase %q", s.Phase)
		}
		for _, want := range []string{"1/3", "2/3", "2 of 3 edges trust what they should, 2 have"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
		status, err := w.skerry("status")
		if err != nil || !strings.Contains(status, "offline: quarry") || !strings.Contains(status, w.state().Next.Hash().String()) {
			t.Errorf("status: %v\n%s", err, status)
		}
		next := w.state().Next.Hash()
		w.edge("quarry", true)
		<-time.After(6 * time.Second)
		if out, err = w.skerry("rotate"); err != nil || !strings.Contains(out, "3/3") {
			t.Fatalf("%v\n%s", err, out)
		}
		if s := w.state(); s.Phase != rotation.Idle || s.CA.Hash() != next || len(s.Retired) != 1 {
			t.Errorf("at the end: phase %q, %d retired", s.Phase, len(s.Retired))
		}
	})
}

func TestCARotateForced(t *testing.T) {
	for _, distrust := range []bool{false, true} {
		inCAWorld(t, func(t *testing.T, w *caWorld) { //nolint:thelper // it is the test
			w.edge("near", true)
			w.edge("quarry", false)
			args, told := []string{"rotate"}, "by their old key"
			if distrust {
				args, told = append(args, "--distrust"), "join again"
			}
			if _, err := w.skerry(args...); err == nil || !strings.Contains(err.Error(), "quarry") || !strings.Contains(err.Error(), told) {
				t.Errorf("%q: %v", args, err)
			}
			out, err := w.skerry(append(args, "--force")...)
			if s := w.state(); err != nil || s.Phase != rotation.Idle || (len(s.Retired) == 0) != distrust {
				t.Errorf("%v, phase %q, %d retired\n%s", err, s.Phase, len(s.Retired), out)
			}
		})
	}
}

// TestCARotateRevoked: an edge that is revoked holds nothing up, unless it has joined
// again since.
func TestCARotateRevoked(t *testing.T) {
	inCAWorld(t, func(t *testing.T, w *caWorld) { //nolint:thelper // it is the test
		w.edge("near", true)
		w.edge("stolen", false)
		revoke := func(at time.Time) {
			_, err := w.client.CoreV1().ConfigMaps(enroll.DefaultNamespace).Create(t.Context(), &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: "skerry-revoked"}, Data: map[string]string{"stolen": at.UTC().Format(time.RFC3339)},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
		}
		revoke(time.Now())
		if out, err := w.skerry("rotate"); err != nil || !strings.Contains(out, "1 are revoked") {
			t.Errorf("%v\n%s", err, out)
		}
		if err := w.client.CoreV1().ConfigMaps(enroll.DefaultNamespace).Delete(t.Context(), "skerry-revoked", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		revoke(w.joined.Add(-time.Hour))
		if _, err := w.skerry("rotate"); err == nil || !strings.Contains(err.Error(), "stolen") {
			t.Errorf("joined after its revocation: %v", err)
		}
	})
}

func TestCARotateSteps(t *testing.T) {
	inCAWorld(t, func(t *testing.T, w *caWorld) { //nolint:thelper // it is the test
		w.edge("near", true)
		before := w.state().CA.Hash()
		for _, tt := range []struct {
			step  string
			wrong string // part of the error
			phase rotation.Phase
		}{
			{"move", "--step add", rotation.Idle},
			{"drop", "--step add", rotation.Idle},
			{"abandon", "--step add", rotation.Idle},
			{"jump", "is not add", rotation.Idle},
			{"add", "", rotation.Trust},
			{"add", "next step is move", rotation.Trust},
			{"abandon", "", rotation.Idle},
			{"add", "", rotation.Trust},
			{"drop", "next step is move", rotation.Trust},
			{"move", "", rotation.Move},
			{"abandon", "next step is drop", rotation.Move},
			{"drop", "", rotation.Idle},
		} {
			_, err := w.skerry("rotate", "--step", tt.step)
			if (err != nil) != (tt.wrong != "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%s: %v, want %q", tt.step, err, tt.wrong)
			}
			if got := w.state().Phase; got != tt.phase {
				t.Fatalf("%s: phase %q, want %q", tt.step, got, tt.phase)
			}
		}
		if w.state().CA.Hash() == before {
			t.Error("the CA is the same")
		}
	})
}

// TestCARotateBrought: what an operator brought is replaced by what he brings.
func TestCARotateBrought(t *testing.T) {
	dir := t.TempDir()
	inCAWorld(t, func(t *testing.T, w *caWorld) { //nolint:thelper // it is the test
		w.edge("near", true)
		secrets := w.client.CoreV1().Secrets(enroll.DefaultNamespace)
		secret, err := secrets.Get(t.Context(), rotation.SecretName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		secret.Labels = nil
		if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.skerry("rotate"); err == nil || !strings.Contains(err.Error(), "--ca-cert") {
			t.Errorf("replaced by one of ours: %v", err)
		}
		ca, err := issuer.NewCA("uid-1")
		if err != nil {
			t.Fatal(err)
		}
		key, err := ca.KeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
		for name, text := range map[string][]byte{certFile: ca.CertPEM(), keyFile: key} {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.skerry("rotate", "--ca-cert", certFile); err == nil {
			t.Error("a certificate without its key is taken")
		}
		if _, err := w.skerry("rotate", "--ca-cert", keyFile, "--ca-key", certFile); err == nil {
			t.Error("files that were mixed up are taken")
		}
		out, err := w.skerry("rotate", "--ca-cert", certFile, "--ca-key", keyFile)
		if err != nil || w.state().CA.Hash() != ca.Hash() {
			t.Errorf("%v\n%s", err, out)
		}
		if strings.Contains(out, "PRIVATE") {
			t.Error("the key is shown")
		}
		// That one is an operator's, too; one that is forced in its place is ours again.
		if _, err := w.skerry("rotate"); err == nil || !strings.Contains(err.Error(), "--ca-cert") {
			t.Errorf("replaced by one of ours: %v", err)
		}
		for _, args := range [][]string{
			{"rotate", "--force", "--step", "add"},
			{"rotate", "--step", "abandon"},
			{"rotate", "--force"},
			{"rotate"},
			{"rotate", "--ca-cert", certFile, "--ca-key", keyFile, "--step", "add"},
			{"rotate", "--step", "abandon"},
			{"rotate", "--ca-cert", certFile, "--ca-key", keyFile},
		} {
			if out, err := w.skerry(args...); err != nil {
				t.Errorf("%q: %v\n%s", args, err, out)
			}
		}
		if _, err := w.skerry("rotate"); err == nil || !strings.Contains(err.Error(), "--ca-cert") {
			t.Errorf("replaced by one of ours in the end: %v", err)
		}
	})
}

func TestCAStatusJSON(t *testing.T) {
	inCAWorld(t, func(t *testing.T, w *caWorld) { //nolint:thelper // it is the test
		w.edge("near", true)
		out, err := w.skerry("status", "-o", "json")
		var got caStatus
		if err != nil || json.Unmarshal([]byte(out), &got) != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got.Phase != "idle" || got.CA.Hash != w.state().CA.Hash().String() || got.Edges != 1 || got.Moved != 1 || len(got.Connected) != 0 ||
			!got.CA.NotAfter.Equal(w.state().CA.Certificate().NotAfter) {
			t.Errorf("%+v", got)
		}
		if _, err := certs.ParseCAHash(got.CA.Hash); err != nil || strings.Contains(out, "PRIVATE") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
