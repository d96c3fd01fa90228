// Package passthrough carries kubectl's own streams through the tunnel as bytes,
// which is what one has who puts a tunnel between kube-apiserver and a kubelet: TLS
// ends in the cloud, HTTP and SPDY go on to the edge, and there to the runtime. Only
// the bench uses it, to show what the frames of the product are worth.
package passthrough

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// CloudConfig is what a Cloud needs.
type CloudConfig struct {
	// Kubelet is where kube-apiserver finds a kubelet, HOST:PORT.
	Kubelet string
	// Tunnel is where the edge dials, HOST:PORT, by UDP and TCP.
	Tunnel string
	// Authority is that of the edge's certificate, too.
	Authority system.Authority
}

// Cloud is the end at kube-apiserver.
type Cloud struct {
	edges   *tunnel.Listener
	kubelet net.Listener
	session atomic.Pointer[tunnel.Session] // the latest; nil before the first
	running sync.WaitGroup
}

// Listen starts a Cloud. ctx only bounds the start.
func Listen(ctx context.Context, cfg CloudConfig) (*Cloud, error) {
	tunnelAddr, err := netip.ParseAddrPort(cfg.Tunnel)
	if err != nil {
		return nil, err
	}
	certificates, err := cfg.Authority.Issuer()
	if err != nil {
		return nil, err
	}
	config, err := certificates.Server()
	if err != nil {
		return nil, err
	}
	serving, err := selfSigned()
	if err != nil {
		return nil, err
	}
	kubelet, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Kubelet)
	if err != nil {
		return nil, err
	}
	tcp, err := link.ListenTCP(ctx, cfg.Tunnel)
	if err != nil {
		return nil, errors.Join(err, kubelet.Close())
	}
	edges, err := tunnel.Listen(ctx, tunnel.ListenConfig{Port: int(tunnelAddr.Port()), Listener: tcp, TLS: config, Replica: "passthrough"})
	if err != nil {
		return nil, errors.Join(err, tcp.Close(), kubelet.Close())
	}
	c := &Cloud{edges: edges, kubelet: tls.NewListener(kubelet, serving)}
	ctx = context.WithoutCancel(ctx)
	c.running.Go(func() { c.acceptEdges(ctx) })
	c.running.Go(func() { c.acceptRequests(ctx) })
	return c, nil
}

// Connected reports whether the edge has come.
func (c *Cloud) Connected() bool { return c.session.Load() != nil }

// Close ends it.
func (c *Cloud) Close() error {
	err := errors.Join(c.kubelet.Close(), c.edges.Close())
	c.running.Wait()
	return err
}

func (c *Cloud) acceptEdges(ctx context.Context) {
	for {
		s, err := c.edges.Accept(ctx)
		if err != nil {
			return
		}
		c.session.Store(s)
	}
}

func (c *Cloud) acceptRequests(ctx context.Context) {
	for {
		conn, err := c.kubelet.Accept()
		if err != nil {
			return
		}
		c.running.Go(func() {
			defer conn.Close() //nolint:errcheck // both ends have said all
			s := c.session.Load()
			if s == nil {
				return
			}
			st, err := s.Open(ctx, wire.KindExec) // as the product's terminals
			if err != nil {
				return
			}
			join(conn, st)
		})
	}
}

// join copies both ways until one side has ended, as UpgradeAwareHandler does.
func join(a, b io.ReadWriteCloser) {
	done := make(chan struct{}, 2)
	for _, pair := range [][2]io.ReadWriteCloser{{a, b}, {b, a}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1]) // the other end hears of it by the close
			done <- struct{}{}
		}()
	}
	<-done
	_ = a.Close()
	_ = b.Close()
	<-done
}

// selfSigned is a certificate as a kubelet makes one; kube-apiserver does not look
// at it unless it was told to.
func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"passthrough"}, NotAfter: time.Now().AddDate(0, 0, 1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the serving certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}, nil
}
