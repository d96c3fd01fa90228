package edgeagent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/edgeagent/store"
)

// metaMap is the store's Meta.
type metaMap map[string][]byte

func (m metaMap) Meta(name string) ([]byte, error) {
	if b, ok := m[name]; ok {
		return b, nil
	}
	return nil, store.ErrNotFound
}

func (m metaMap) SetMeta(name string, value []byte) error {
	m[name] = value
	return nil
}

func newAuthority(t *testing.T) *issuer.CA {
	t.Helper()
	ca, err := issuer.NewCA("cluster")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// joined is the key pair of an edge that has just joined.
func joined(t *testing.T, ca *issuer.CA, dir string) *certs.KeyPairFile {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.SignEdge(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), certs.Identity{Cluster: "cluster", Node: "edge"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"edge.crt": cert, "edge.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := certs.NewKeyPairFile(filepath.Join(dir, "edge.crt"), filepath.Join(dir, "edge.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// epoch is the clock of a machine that has none.
func epoch() time.Time { return time.Unix(0, 0) }

const day = 24 * time.Hour

// A machine without a clock boots again and again; what it takes for the time is
// never before what it knew.
func TestTimekeeper(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		keys, meta := joined(t, newAuthority(t), dir), metaMap{}
		began := keys.Current().Leaf.NotBefore
		stop := func() {}
		boot := func() *timekeeper {
			stop()
			k := newTimekeeper(&certs.Clock{Local: epoch}, keys, meta, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- k.run(ctx) }()
			stop = func() {
				synctest.Wait()
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			return k
		}
		defer func() { stop() }()
		want := func(when string, k *timekeeper, want time.Time) {
			t.Helper()
			if got := k.clock.Now(); got.Sub(want).Abs() > time.Second {
				t.Errorf("%s: it is %v, want %v", when, got, want)
			}
		}
		k := boot()
		want("before the first session", k, began)

		time.Sleep(10 * day) //nolint:forbidigo // virtual time
		k.told(uint64(time.Now().UnixMilli()))
		want("in a session", k, time.Now())
		session := time.Now()
		time.Sleep(day) //nolint:forbidigo // virtual time
		want("a day later", k, time.Now())
		k = boot()
		want("after a boot", k, session.Add(day)) // what a day brought is kept

		session = time.Now()
		time.Sleep(13 * time.Hour) //nolint:forbidigo // virtual time
		k = boot()
		want("after hours without a cloud and a boot", k, session.Add(12*time.Hour))

		// A cloud that is wrong by years, for a moment.
		k.told(uint64(time.Now().Add(3650 * day).UnixMilli()))
		want("a cloud that is wrong", k, keys.Current().Leaf.NotAfter)
		k.told(uint64(time.Now().UnixMilli()))
		want("a cloud that is right again", k, time.Now())
		k = boot()
		want("after another boot", k, time.Now())
	})
}

// blockedMeta is a store on a disk that hangs until it is freed, and is full then.
type blockedMeta struct {
	metaMap
	free chan struct{}
	room *atomic.Bool
}

func (m blockedMeta) SetMeta(name string, value []byte) error {
	<-m.free
	if !m.room.Load() {
		return errors.New("no space left on device")
	}
	return m.metaMap.SetMeta(name, value)
}

// A session waits for no disk, and a disk that was full is tried again.
func TestTimekeeperDiskHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := blockedMeta{metaMap{}, make(chan struct{}), new(atomic.Bool)}
		k := newTimekeeper(&certs.Clock{}, joined(t, newAuthority(t), dir), disk, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.run(ctx) }()
		began := time.Now()
		for range 3 {
			k.told(uint64(time.Now().UnixMilli()))
			synctest.Wait()
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("three sessions have waited %v for the disk", waited)
		}
		close(disk.free)
		synctest.Wait()
		disk.room.Store(true)
		time.Sleep(keepTimeEvery) //nolint:forbidigo // virtual time
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil || len(disk.metaMap[metaTime]) != 16 {
			t.Errorf("kept %d bytes, %v", len(disk.metaMap[metaTime]), err)
		}
	})
}

// What is kept is read, also what older agents wrote, and nonsense does no harm.
func TestTimekeeperReadsKept(t *testing.T) {
	dir := t.TempDir()
	ahead := time.Now().Add(20 * day)
	for name, kept := range map[string][]byte{
		"kept":                   keptTime{ahead, -20 * day}.marshal(),
		"kept by an older agent": binary.BigEndian.AppendUint64(nil, uint64(ahead.UnixMilli())),
	} {
		k := newTimekeeper(&certs.Clock{}, joined(t, newAuthority(t), dir), metaMap{metaTime: kept}, slog.New(slog.DiscardHandler))
		if now := k.clock.Now(); now.Sub(ahead).Abs() > time.Minute {
			t.Errorf("%s: it is %v, want %v", name, now, ahead)
		}
	}
	if k := newTimekeeper(&certs.Clock{}, joined(t, newAuthority(t), dir), metaMap{metaTime: {1}}, slog.New(slog.DiscardHandler)); time.Since(k.clock.Now()).Abs() > time.Minute {
		t.Errorf("nonsense is kept: it is %v", k.clock.Now())
	}
}

// The certificate of the cloud is looked at by TCP when it seems to be one of the
// future.
func TestTimekeeperLearns(t *testing.T) {
	ca := newAuthority(t)
	keys := joined(t, ca, t.TempDir())
	server, err := ca.SignServer(issuer.ServerRequest{Cluster: "cluster"})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*server}, NextProtos: []string{"x"}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if c, ok := conn.(*tls.Conn); ok {
				_ = c.Handshake()
			}
			_ = conn.Close()
		}
	}()
	clock := &certs.Clock{Local: epoch}
	trust := certs.ClientConfig{GetClientCertificate: keys.GetClientCertificate, RootCAs: ca.Pool(), Cluster: "cluster", NextProtos: []string{"x"}, Clock: clock}
	k := &timekeeper{clock: clock, keys: keys, store: metaMap{}, log: slog.New(slog.DiscardHandler)}
	if !k.learn(t.Context(), ln.Addr().String(), trust) || clock.Now().Before(server.Leaf.NotBefore) {
		t.Errorf("nothing was learned: it is %v", clock.Now())
	}
	if k.learn(t.Context(), ln.Addr().String(), trust) {
		t.Error("the same is news again")
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	if k.learn(t.Context(), dead.Addr().String(), trust) {
		t.Error("something was learned of nobody")
	}
}
