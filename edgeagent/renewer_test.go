package edgeagent

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// renewals is a cloud that renews, over streams and by HTTPS.
type renewals struct {
	*renewer

	t   *testing.T
	ca  *issuer.CA
	dir string

	also *issuer.CA // whose certificates it renews as well

	mu      sync.Mutex
	up      bool
	change  chan struct{}
	refuse  certs.EnrollCode
	broken  bool
	streams int
	posts   int
}

func runRenewals(t *testing.T, local func() time.Time, f func(c *renewals)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		keys := joined(t, ca, dir)
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca.CertPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		trust, err := loadTrust(dir)
		if err != nil {
			t.Fatal(err)
		}
		c := &renewals{t: t, ca: ca, dir: dir, change: make(chan struct{})}
		c.renewer = &renewer{
			keys: keys, clock: &certs.Clock{Local: local}, refused: make(chan struct{}, 1),
			dial: c.stream, connected: c.isUp, changed: c.next, post: c.https, trust: trust, turn: make(chan struct{}, 1),
			log: slog.New(slog.DiscardHandler),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		synctest.Wait()
		f(c)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (c *renewals) isUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

func (c *renewals) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.change
}

// set says what the cloud is like from now on.
func (c *renewals) set(up bool, refuse certs.EnrollCode, broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if up != c.up {
		close(c.change)
		c.change = make(chan struct{})
	}
	c.up, c.refuse, c.broken = up, refuse, broken
}

func (c *renewals) counts() (streams, posts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams, c.posts
}

func (c *renewals) answer(request []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return nil, errors.New("the line breaks")
	}
	if c.refuse != "" {
		return json.Marshal(certs.RenewAnswer{Refused: &certs.EnrollRefusal{Code: c.refuse, Text: "no"}})
	}
	var req certs.RenewRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return nil, err
	}
	known := []*x509.Certificate{c.ca.Certificate()}
	if c.also != nil {
		known = append(known, c.also.Certificate())
	}
	r, err := issuer.CheckRenewal(known, []byte(req.Certificate), []byte(req.CSR))
	if err != nil {
		return nil, err
	}
	cert, err := c.ca.SignRenewal(r, 0)
	if err != nil {
		return nil, err
	}
	return json.Marshal(certs.RenewAnswer{Granted: &certs.EnrollResponse{Certificate: string(cert), CA: string(c.ca.CertPEM()), Cluster: "cluster", NodeName: "edge"}})
}

// halves is one end of a stream whose directions end one by one.
type halves struct {
	net.Conn

	said   *io.PipeWriter
	answer *io.PipeReader
}

func (h *halves) Write(p []byte) (int, error) { return h.said.Write(p) }
func (h *halves) CloseWrite() error           { return h.said.Close() }
func (h *halves) Read(p []byte) (int, error)  { return h.answer.Read(p) }
func (h *halves) Close() error                { return errors.Join(h.said.Close(), h.answer.Close()) }

func (c *renewals) stream(_ context.Context, kind wire.Kind) (net.Conn, error) {
	c.mu.Lock()
	c.streams++
	c.mu.Unlock()
	if kind != wire.KindRenewal {
		c.t.Errorf("a stream of kind %s", kind)
	}
	request, said := io.Pipe()
	answer, say := io.Pipe()
	go func() {
		b, _ := io.ReadAll(request)
		reply, err := c.answer(b)
		if err == nil {
			_, err = say.Write(reply)
		}
		_ = say.CloseWithError(err)
	}()
	return &halves{said: said, answer: answer}, nil
}

func (c *renewals) https(_ context.Context, request []byte) ([]byte, error) {
	c.mu.Lock()
	c.posts++
	c.mu.Unlock()
	return c.answer(request)
}

// left is how long the certificate on the disk is good for.
func (c *renewals) left() time.Duration {
	c.t.Helper()
	pair, err := certs.NewKeyPairFile(filepath.Join(c.dir, "edge.crt"), filepath.Join(c.dir, "edge.key"), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if !pair.Current().Leaf.Equal(c.keys.Current().Leaf) {
		c.t.Error("the certificate in use is not that on the disk")
	}
	return time.Until(pair.Current().Leaf.NotAfter).Round(time.Hour)
}

func (c *renewals) want(step string, left time.Duration) {
	c.t.Helper()
	synctest.Wait()
	if got := c.left(); got != left {
		c.t.Errorf("%s: the certificate is good for %v, want %v", step, got, left)
	}
}

func after(d time.Duration) { <-time.After(d) }

// TestRenewal at two thirds, through the session there is.
func TestRenewal(t *testing.T) {
	runRenewals(t, nil, func(c *renewals) {
		joined := certs.JoinedAt(c.keys.Current().Leaf)
		c.set(true, "", false)
		after(20*day - time.Hour)
		c.want("before two thirds", 10*day+time.Hour)
		after(2 * time.Hour)
		c.want("after two thirds", 30*day-time.Hour)
		after(365 * day)
		if left := c.left(); left < 10*day {
			t.Errorf("after a year %v are left", left)
		}
		if at := certs.JoinedAt(c.keys.Current().Leaf); !at.Equal(joined) {
			t.Errorf("it says that the edge joined at %v, which was %v", at, joined)
		}
		if streams, posts := c.counts(); streams != 19 || posts != 0 {
			t.Errorf("%d streams and %d posts in 385 days", streams, posts)
		}
	})
}

// TestRenewalWaitsForASession: an edge that is offline asks when the link is back.
func TestRenewalWaitsForASession(t *testing.T) {
	runRenewals(t, nil, func(c *renewals) {
		after(25 * day)
		c.want("offline", 5*day)
		c.set(true, "", false)
		after(time.Second)
		c.want("back", 30*day)
		if streams, posts := c.counts(); streams != 1 || posts != 0 {
			t.Errorf("%d streams and %d posts", streams, posts)
		}
	})
}

// TestRenewalAfterExpiry goes by HTTPS, since no session is to be had.
func TestRenewalAfterExpiry(t *testing.T) {
	runRenewals(t, nil, func(c *renewals) {
		c.set(false, "", true)
		after(40 * day)
		c.want("offline", -10*day)
		streams, posts := c.counts()
		if streams != 0 || posts < 24*9 || posts > 24*25 {
			t.Errorf("%d streams, %d posts in ten days without a line", streams, posts)
		}
		c.set(false, "", false)
		after(2 * time.Hour)
		if left := c.left(); left < 29*day {
			t.Errorf("back on the line: %v are left", left)
		}
	})
}

// TestRenewalRefused: the edge goes on asking, seldom, and keeps what it has.
func TestRenewalRefused(t *testing.T) {
	runRenewals(t, nil, func(c *renewals) {
		c.set(true, certs.CodeRevoked, false)
		after(21 * day)
		c.want("refused", 9*day)
		if streams, _ := c.counts(); streams < 10 || streams > 60 {
			t.Errorf("asked %d times in a day", streams)
		}
		c.set(true, "", false)
		after(2 * time.Hour)
		if left := c.left(); left < 29*day {
			t.Errorf("allowed again: %v are left", left)
		}
	})
}

// TestRenewalByTheCloudsWord: by this machine's clock the certificate is good, and the
// cloud says that it is not.
func TestRenewalByTheCloudsWord(t *testing.T) {
	runRenewals(t, epoch, func(c *renewals) {
		after(time.Hour)
		c.renewer.refused <- struct{}{}
		after(time.Second)
		c.want("refused by TLS", 30*day)
		if streams, posts := c.counts(); streams != 0 || posts != 1 {
			t.Errorf("%d streams and %d posts", streams, posts)
		}
	})
}
