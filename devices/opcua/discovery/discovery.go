package discovery

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/channel"
)

const maxEndpoints = 256

// Dialer makes connections; net.Dialer does.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Address is HOST:PORT of a URL as opc.tcp://HOST:PORT/PATH.
func Address(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("url %q: %w", raw, err)
	}
	if u.Scheme != "opc.tcp" || u.Hostname() == "" {
		return "", fmt.Errorf("url %q: want opc.tcp://HOST:PORT/PATH", raw)
	}
	port := u.Port()
	if port == "" {
		port = "4840"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// ask opens a channel without security, asks once, and closes it. Discovery is
// possible without security by definition (Part 4, 5.5.1).
func ask(ctx context.Context, d Dialer, raw string, req ua.Request) (ua.Response, error) {
	address, err := Address(raw)
	if err != nil {
		return nil, err
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c, err := channel.Open(ctx, conn, channel.Config{URL: raw, Policy: ua.SecurityPolicyURINone, Mode: ua.MessageSecurityModeNone, MaxMessage: 1 << 20})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Request(ctx, req, nil)
}

// Endpoints asks a server for its endpoints (GetEndpoints).
func Endpoints(ctx context.Context, d Dialer, raw string) ([]*ua.EndpointDescription, error) {
	v, err := ask(ctx, d, raw, &ua.GetEndpointsRequest{EndpointURL: raw})
	if err != nil {
		return nil, err
	}
	r, ok := v.(*ua.GetEndpointsResponse)
	if !ok || len(r.Endpoints) > maxEndpoints {
		return nil, fmt.Errorf("GetEndpoints: %T with more than %d endpoints, or no answer to it", v, maxEndpoints)
	}
	return slices.DeleteFunc(r.Endpoints, func(e *ua.EndpointDescription) bool { return e == nil || e.Server == nil }), nil
}

// Servers asks a server, or a discovery server, which ones it knows (FindServers).
func Servers(ctx context.Context, d Dialer, raw string) ([]*ua.ApplicationDescription, error) {
	v, err := ask(ctx, d, raw, &ua.FindServersRequest{EndpointURL: raw})
	if err != nil {
		return nil, err
	}
	r, ok := v.(*ua.FindServersResponse)
	if !ok || len(r.Servers) > maxEndpoints {
		return nil, fmt.Errorf("FindServers: %T with more than %d servers, or no answer to it", v, maxEndpoints)
	}
	return r.Servers, nil
}

// Dial connects to the server of an endpoint that was found at the URL asked: to the
// address asked, which has just answered. What the endpoint calls its host may not
// resolve here, resolve to something else, or be behind a forwarded port.
func Dial(ctx context.Context, d Dialer, asked string) (net.Conn, error) {
	address, err := Address(asked)
	if err != nil {
		return nil, err
	}
	return d.DialContext(ctx, "tcp", address)
}
