package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/bootstrap"
	"github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// ticketCache is the agent's.
const ticketCache = 4

// skerry is an edge of the product, as package edgeagent builds it.
type skerry struct {
	join    Join
	tls     *tls.Config
	store   *store.Store
	objects *desired.Objects
	stored  func(mark string, at time.Time)
}

func newSkerry(ctx context.Context, j Join, stored func(string, time.Time)) (*skerry, error) {
	hash, err := certs.ParseCAHash(j.CAHash)
	if err != nil {
		return nil, err
	}
	etc := filepath.Join(j.Dir, "etc")
	_, err = bootstrap.Join(ctx, bootstrap.Config{
		Server: j.Server, Token: j.Token, CAHash: hash, NodeName: j.Node, Dir: etc, AgentConfig: []byte("# nobody reads this\n"),
	})
	if err != nil {
		return nil, err
	}
	s := &skerry{join: j, stored: stored}
	if s.tls, err = clientTLS(filepath.Join(etc, "pki")); err != nil {
		return nil, err
	}
	if s.store, err = store.Open(store.Config{Dir: filepath.Join(j.Dir, "db")}); err != nil {
		return nil, err
	}
	s.objects = &desired.Objects{Store: s.store}
	return s, nil
}

func clientTLS(pki string) (*tls.Config, error) {
	ca, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no CA", pki)
	}
	keys, err := certs.NewKeyPairFile(filepath.Join(pki, "edge.crt"), filepath.Join(pki, "edge.key"), nil)
	if err != nil {
		return nil, err
	}
	id, err := keys.Identity()
	if err != nil {
		return nil, err
	}
	return certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: keys.GetClientCertificate, RootCAs: roots, Cluster: id.Cluster,
		NextProtos: []string{tunnel.ALPN}, SessionCache: tls.NewLRUClientSessionCache(ticketCache),
	})
}

func (s *skerry) connection() (run func(context.Context) error, synced func() bool, err error) {
	up, err := uplink.New(uplink.Config{
		Session: func(ctx context.Context, b uplink.Begin) (uplink.Session, error) {
			session, err := tunnel.New(ctx, tunnel.DialConfig{
				Address: s.join.Server, Since: b.Since, TLS: s.tls,
				Hello: wire.Hello{
					Incarnation: b.Incarnation, Seq: b.Seq, AgentVersion: "bench", OS: runtime.GOOS, Arch: runtime.GOARCH, Hostname: s.join.Node,
				},
			})
			if err != nil {
				return nil, err // not session: a nil *Session in an interface is not nil
			}
			return session, nil
		},
		Watch: uplink.WatchNetwork,
	})
	if err != nil {
		return nil, nil, err
	}
	down, err := desired.New(desired.Config{Store: s.store, Dialer: up, Wake: s.wake})
	if err != nil {
		return nil, nil, err
	}
	run = func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return up.Run(ctx) })
		g.Go(func() error { return down.Run(ctx) })
		return g.Wait()
	}
	return run, func() bool { return down.Stats().Synced }, nil
}

// wake is told of each object that is in the store, synced.
func (s *skerry) wake(key string) {
	at := time.Now()
	o, err := s.object(key)
	if err == nil {
		s.stored(o.GetAnnotations()[Mark], at)
	}
}

func (s *skerry) object(key string) (metav1.Object, error) {
	resource, name, _ := strings.Cut(key, "/")
	switch wire.Resource(resource) {
	case wire.ResourcePods:
		return s.objects.Pod(key)
	case wire.ResourceConfigMaps:
		namespace, name, _ := strings.Cut(name, "/")
		return s.objects.ConfigMap(namespace, name)
	default:
		return nil, errors.New("nothing that the benchmark changes")
	}
}
