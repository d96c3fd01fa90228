package edgeagent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/edgeagent/config"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// ticketCache bounds the TLS tickets that are kept: one for QUIC and one for TCP,
// and as many of a certificate that has just been renewed.
const ticketCache = 4

// maxStreams is how many streams the cloud may have open here. The tunnel promises
// each 64 KiB of buffers, so 512 are the 32 MiB that it may hold on an edge. What
// a stream takes beside is bounded by kind, see kubeletapi.Config.
const maxStreams = 512

// uplink dials with the newest certificate each time. That ours has expired is no
// reason not to: whether it has, the cloud's clock decides.
func (a *Agent) uplink(times *timekeeper) (*uplink.Uplink, error) {
	cache := tls.NewLRUClientSessionCache(ticketCache)
	trust := func() certs.ClientConfig {
		cfg := a.cloud()
		cfg.SessionCache = cache
		return cfg
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("read the machine's name: %w", err)
	}
	taints, err := a.cfg.NodeTaints()
	if err != nil {
		return nil, err
	}
	var detours func([]net.Addr) []tunnel.Way // nil: the tunnel's own
	if a.cfg.OtherUplinks == config.Never {
		detours = func([]net.Addr) []tunnel.Way { return nil }
	}
	maxRate, err := a.cfg.BytesPerSecond()
	if err != nil {
		return nil, err
	}
	return uplink.New(uplink.Config{
		Session: func(ctx context.Context, b uplink.Begin) (uplink.Session, error) {
			conf, err := certs.ClientTLS(trust())
			if err != nil {
				return nil, err
			}
			s, err := tunnel.New(ctx, tunnel.DialConfig{
				Address: a.cfg.Server,
				Since:   b.Since,
				Detours: detours,
				Packets: a.cfg.Packets == config.Auto,
				MaxRate: maxRate,
				TLS:     conf,
				Roots:   a.trust.pool,

				MaxStreams: maxStreams,
				Hello: wire.Hello{
					Incarnation:  b.Incarnation,
					Seq:          b.Seq,
					AgentVersion: a.cfg.Version,
					OS:           runtime.GOOS,
					Arch:         runtime.GOARCH,
					Hostname:     hostname,
					Labels:       labels(a.cfg.Labels),
					Taints:       wireTaints(taints),
				},
				Log: a.log,
			})
			if err != nil {
				return nil, err
			}
			return &cloudSession{
				Session: s, told: times.told, refused: a.refused,
				learn: func(ctx context.Context) bool {
					return a.followCA(ctx) || times.learn(ctx, a.cfg.Server, trust())
				},
			}, nil
		},
		Watch: uplink.WatchNetwork,
		Log:   a.log,
	})
}

// cloud is whom this edge takes for its cloud, and as whom it goes there.
func (a *Agent) cloud() certs.ClientConfig {
	return certs.ClientConfig{
		GetClientCertificate: a.keys.GetClientCertificate,
		RootCAs:              a.trust.pool(),
		Cluster:              a.identity.Cluster,
		NextProtos:           []string{tunnel.ALPN},
		Clock:                a.clock,
	}
}

// followCA looks for the successor of the CA, for the cloud shows a certificate that is
// not of those that are trusted, and reports whether there is news.
func (a *Agent) followCA(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	news, err := a.trust.successor(ctx, a.cfg.Server, a.clock)
	switch {
	case news:
		a.log.Info("the CA was replaced while this edge was away; it has named its successor, which is trusted from now on")
	case err != nil:
		a.log.Debug("no successor of the CA is known", "error", err)
	}
	return news
}

// renewer keeps this edge's certificate fresh.
func (a *Agent) renewer(up *uplink.Uplink) *renewer {
	return &renewer{
		keys: a.keys, clock: a.clock, version: a.cfg.Version,
		dial: up.Dial, connected: up.Connected, changed: up.Changed,
		refused: a.refused, post: byHTTPS(a.cfg.Server, a.cloud), trust: a.trust, log: a.log,
		turn: make(chan struct{}, 1),
	}
}

// cloudSession is one that has to do with the time, and with certificates that end.
type cloudSession struct {
	*tunnel.Session

	told    func(unixMilli uint64)
	learn   func(ctx context.Context) bool
	refused chan<- struct{} // of capacity 1: the cloud has refused our certificate
}

// errLearned is for the uplink, which dials again soon.
var errLearned = errors.New("what was known did not go with the cloud's certificate, and is corrected")

// Dial implements uplink.Session.
func (s *cloudSession) Dial(ctx context.Context) error {
	err := s.Session.Dial(ctx)
	switch {
	case err == nil:
		s.told(s.Welcome().UnixMilli)
	case errors.Is(err, tunnel.ErrStranger):
		if s.learn(ctx) {
			return errLearned
		}
	case !errors.Is(err, tunnel.ErrUntrusted):
	case byPeer(err):
		select {
		case s.refused <- struct{}{}:
		default:
		}
	case s.learn(ctx):
		return errLearned
	}
	return err
}

// byPeer reports that it is the cloud which refuses.
func byPeer(err error) bool {
	e, ok := errors.AsType[*tunnel.SessionError](err)
	return ok && e.Remote
}

func labels(m map[string]string) []string {
	list := make([]string, 0, len(m))
	for k, v := range m {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

func wireTaints(all []corev1.Taint) []wire.Taint {
	list := make([]wire.Taint, 0, len(all))
	for _, t := range all {
		list = append(list, wire.Taint{Key: t.Key, Value: t.Value, Effect: string(t.Effect)})
	}
	return list
}
