package opcua

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/channel"
	"github.com/skerry-io/skerry/devices/opcua/discovery"
	"github.com/skerry-io/skerry/devices/opcua/session"
	"github.com/skerry-io/skerry/devices/opcua/values"
)

const (
	connectTimeout = 10 * time.Second
	dialTimeout    = 5 * time.Second
)

// link is a session that works, with what its server calls things.
type link struct {
	session    *session.Session
	namespaces []string
	start      int64 // of the server
	resumed    bool  // the session is that of the link before

	mu    sync.RWMutex // guards loading types against using them
	types *values.Types
}

// limited dials with a limit of its own: a black hole takes minutes else.
type limited struct{ d discovery.Dialer }

func (l limited) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return l.d.DialContext(ctx, network, address)
}

// connect makes a link: the old session on a new channel if the server still has
// it, else a new session. What was chosen before is used again as long as it works.
func (h *hub) connect(ctx context.Context, of *conn) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*connectTimeout)
	defer cancel()
	user, err := userOf(of.dev)
	if err != nil {
		return nil, err
	}
	known := h.choice != nil
	c, check, err := h.channel(ctx, of, user)
	if err != nil {
		h.choice = nil // the server may be another one than before
		if known && !errors.Is(err, context.DeadlineExceeded) && isAnswer(err) {
			c, check, err = h.channel(ctx, of, user)
		}
		if err != nil {
			return nil, err
		}
	}
	l := &link{types: values.NewTypes()}
	if h.session != nil {
		err := h.session.Activate(ctx, c)
		if err == nil {
			l.session, l.resumed = h.session, true
		} else if c.Err() != nil {
			return nil, err
		} else {
			of.log.Info("session not taken up again", "error", err)
			h.session = nil
		}
	}
	if h.session == nil {
		l.session, err = session.Create(ctx, c, session.Config{
			Name: h.driver.pki().Own().URI, URI: h.driver.pki().Own().URI, Timeout: h.server.timeout, User: user, Token: h.choice.Token, Check: check,
		})
		if err != nil {
			h.choice = nil
			c.Close()
			return nil, err
		}
		h.session = l.session
	}
	if err := l.identify(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return l, nil
}

// isAnswer reports whether somebody answered, and differently than expected.
func isAnswer(err error) bool {
	var network net.Error
	return !errors.As(err, &network)
}

// channel discovers, verifies and opens.
func (h *hub) channel(ctx context.Context, of *conn, user session.User) (*channel.Channel, func([]*ua.EndpointDescription) error, error) {
	var check func([]*ua.EndpointDescription) error
	dialer := limited{h.driver.cfg.Dialer}
	if h.choice == nil {
		found, err := discovery.Endpoints(ctx, dialer, h.server.url)
		if err != nil {
			return nil, nil, fmt.Errorf("discover %s: %w", h.server.url, err)
		}
		want := h.server.want
		want.User = user.Kind()
		choice, err := discovery.Choose(found, want)
		if err != nil {
			return nil, nil, err
		}
		h.choice = &choice
		check = func(told []*ua.EndpointDescription) error { return discovery.Same(found, told) }
	}
	e := h.choice.Endpoint
	cfg := channel.Config{URL: e.EndpointURL, Policy: e.SecurityPolicyURI, Mode: e.SecurityMode, Timeout: connectTimeout}
	if e.SecurityPolicyURI != ua.SecurityPolicyURINone {
		trust, err := trustOf(of.dev)
		if err != nil {
			return nil, nil, err
		}
		host := ""
		if u, err := url.Parse(h.server.url); err == nil {
			host = u.Hostname()
		}
		own := h.driver.pki().Own()
		cfg.Certificate, cfg.Key = own.Certificate, own.Key
		if cfg.Server, err = h.driver.pki().Verify(e.ServerCertificate, trust, host, e.Server.ApplicationURI); err != nil {
			return nil, nil, err
		}
	}
	conn, err := discovery.Dial(ctx, dialer, h.server.url)
	if err != nil {
		return nil, nil, err
	}
	c, err := channel.Open(ctx, conn, cfg)
	return c, check, err
}

// identify reads the namespaces and when the server was started.
func (l *link) identify(ctx context.Context) error {
	var err error
	if l.namespaces, err = l.session.Namespaces(ctx); err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	v, err := l.session.Read(ctx, []session.Attribute{{Node: ua.NewNumericNodeID(0, id.Server_ServerStatus_StartTime), ID: ua.AttributeIDValue}})
	if err != nil {
		return fmt.Errorf("start time: %w", err)
	}
	if v[0].Value != nil {
		if at, ok := v[0].Value.Value().(time.Time); ok {
			l.start = at.UnixNano()
		}
	}
	return nil
}

// heartbeat keeps a session alive that has no subscriptions, and notices a dead
// connection for it.
func (l *link) heartbeat(ctx context.Context) error {
	every := max(time.Second, min(l.session.Timeout/3, 30*time.Second))
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
		if _, err := l.session.Read(ctx, []session.Attribute{{Node: ua.NewNumericNodeID(0, id.Server_ServerStatus_State), ID: ua.AttributeIDValue}}); err != nil {
			if ctx.Err() == nil && (session.Lost(err) || l.session.Channel().Err() != nil || errors.Is(err, context.DeadlineExceeded)) {
				return fmt.Errorf("heartbeat: %w", err)
			}
		}
	}
}
