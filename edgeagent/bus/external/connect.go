package external

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/skerry-io/skerry/edgeagent/bus"
)

const (
	dialTimeout  = 10 * time.Second
	writeTimeout = 10 * time.Second
)

// conn is written to by several goroutines, which paho has take turns by the lock. A
// write that takes too long ends it.
type conn struct {
	net.Conn
	sync.Mutex
}

func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Close() // the error says it
	}
	return n, err
}

func (c *Client) connect(ctx context.Context) (*paho.Client, error) {
	raw, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	cp := &paho.Connect{
		ClientID: "skerry-" + c.cfg.Node, KeepAlive: keepalive, CleanStart: true,
		Properties:  &paho.ConnectProperties{ReceiveMaximum: new(uint16(inflight)), MaximumPacketSize: new(uint32(bus.MaxCommand + 4<<10)), RequestProblemInfo: true},
		WillMessage: &paho.WillMessage{Topic: bus.EdgeTopic(c.cfg.Node), Payload: bus.EdgePayload(false, ""), Retain: true, QoS: 1},
	}
	if c.cfg.UserName != "" {
		cp.UsernameFlag, cp.Username = true, c.cfg.UserName
	}
	if c.cfg.PasswordFile != "" {
		password, err := os.ReadFile(c.cfg.PasswordFile)
		if err != nil {
			_ = raw.Close() // nothing was sent
			return nil, fmt.Errorf("bus.passwordFile: %w", err)
		}
		cp.PasswordFlag, cp.Password = true, []byte(strings.TrimRight(string(password), "\r\n"))
	}
	cl := paho.NewClient(paho.ClientConfig{
		Conn: &conn{Conn: raw}, PacketTimeout: dialTimeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){c.received},
	})
	ack, err := cl.Connect(ctx, cp)
	switch {
	case err != nil && ack != nil && (ack.ReasonCode == packets.ConnackBadUsernameOrPassword || ack.ReasonCode == packets.ConnackNotAuthorized):
		return nil, fmt.Errorf("the broker refuses this edge (reason 0x%02x): check bus.userName and bus.passwordFile", ack.ReasonCode)
	case err != nil && ack != nil:
		return nil, fmt.Errorf("the broker refuses this edge (reason 0x%02x): %w", ack.ReasonCode, err)
	case err != nil:
		return nil, fmt.Errorf("connect by MQTT 5: %w", err)
	}
	return cl, nil
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host, port := c.broker.Hostname(), c.broker.Port()
	if c.broker.Scheme == "mqtt" {
		if port == "" {
			port = "1883"
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	}
	if port == "" {
		port = "8883"
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if c.cfg.CAFile != "" {
		text, err := os.ReadFile(c.cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("bus.caFile: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("bus.caFile: %s has no certificate in PEM", c.cfg.CAFile)
		}
	}
	return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
}
