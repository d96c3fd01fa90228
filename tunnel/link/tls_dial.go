package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// Dialer makes the TCP connections of DialTLS. ProxyDialer gives one.
type Dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// DialTLS makes a connection over TCP. The address is for dial alone. A refused or
// broken handshake gives a *ConnError, and so does the first read when the peer
// has refused our certificate: in TLS 1.3 this side is done before it is asked.
// Whenever nothing went or came for keepAlive the connection sends a Ping; zero
// means never.
func DialTLS(ctx context.Context, dial Dialer, addr string, conf *tls.Config, keepAlive time.Duration) (Conn, error) { //nolint:ireturn // one of two carriers'
	tcp, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	conf = withTickets(tlsConfig(conf), KindTLS)
	if conf.ServerName == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			conf.ServerName = host
		}
	}
	raw := newCounted(tcp)
	tune(tcpSocket(tcp))
	t := tls.Client(raw, conf)
	begin := time.Now()
	if err := t.HandshakeContext(ctx); err != nil {
		_ = bottom(tcp).Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, ctx.Err())
		}
		return nil, fmt.Errorf("dial %s: %w", addr, handshakeError(err))
	}
	if err := checkALPN(t, conf); err != nil {
		_ = bottom(tcp).Close()
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	c := newTLSConn(raw, t, keepAlive, nil)
	c.took(time.Since(begin))
	return c, nil
}

// tlsConfig gives both sides' configurations what this carrier needs.
func tlsConfig(conf *tls.Config) *tls.Config {
	conf = conf.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS13)
	// Short records at the start help a browser, which reads half an answer. A frame
	// can't be used before all of it is there.
	conf.DynamicRecordSizingDisabled = true
	return conf
}

// checkALPN wants an agreement: crypto/tls lets a peer pass that says nothing.
func checkALPN(t *tls.Conn, conf *tls.Config) error {
	if slices.Contains(conf.NextProtos, t.ConnectionState().NegotiatedProtocol) {
		return nil
	}
	return &ConnError{Code: wire.CodeUnsupported, Text: "the peer does not speak " + strings.Join(conf.NextProtos, " or ")}
}
