package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// maxProxyAnswer bounds the header of a proxy's answer.
const maxProxyAnswer = 16 << 10

// ProxyDialer gives a Dialer that goes through the proxy that the environment
// names: HTTPS_PROXY or https_proxy, but not to hosts of NO_PROXY or no_proxy. The
// proxy is an http:// or https:// URL, with user and password if it wants Basic
// authentication; it is told the address as the Dialer gets it, so a name reaches
// it as a name. Without a proxy it is plain TCP.
func ProxyDialer(env func(string) string) Dialer {
	return proxyDialer{env: env}.dial
}

type proxyDialer struct {
	env   func(string) string
	roots *x509.CertPool // that sign https:// proxies; nil means the system's
}

func (d proxyDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	proxy, err := d.proxy(addr)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return tcpDialer().DialContext(ctx, network, addr)
	}
	conn, err := d.reach(ctx, network, proxy)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	// Whatever connect waits for, it ends with ctx.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = connect(conn, addr, proxy.User)
	if !stop() { // the deadline is or will be there
		err = ctx.Err()
	}
	if err != nil {
		_ = bottom(conn).Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	return conn, nil
}

// proxy is the way to addr; nil means the direct one. Its errors don't repeat
// what the environment says, which may hold a password.
func (d proxyDialer) proxy(addr string) (*url.URL, error) {
	value, name := d.first("HTTPS_PROXY", "https_proxy")
	if value == "" {
		return nil, nil //nolint:nilnil // no proxy is no error
	}
	// Only which hosts go through one is asked here: of a proxy that it can't parse
	// this package says the same as of none.
	noProxy, _ := d.first("NO_PROXY", "no_proxy")
	rules := httpproxy.Config{HTTPSProxy: "http://proxy.invalid", NoProxy: noProxy}
	if via, err := rules.ProxyFunc()(&url.URL{Scheme: "https", Host: addr}); err != nil || via == nil {
		return nil, err
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Hostname() == "":
		return nil, fmt.Errorf("%s is not the URL of a proxy", name)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%s: proxies of scheme %q are not supported, only http and https", name, u.Scheme)
	case u.Port() == "" && u.Scheme == "http":
		u.Host = net.JoinHostPort(u.Hostname(), "80")
	case u.Port() == "":
		u.Host = net.JoinHostPort(u.Hostname(), "443")
	}
	return u, nil
}

// first gives the first of the variables that is set, and its name.
func (d proxyDialer) first(names ...string) (value, name string) {
	for _, name := range names {
		if v := d.env(name); v != "" {
			return v, name
		}
	}
	return "", ""
}

// reach connects to the proxy itself.
func (d proxyDialer) reach(ctx context.Context, network string, proxy *url.URL) (net.Conn, error) {
	tcp, err := tcpDialer().DialContext(ctx, network, proxy.Host)
	if err != nil || proxy.Scheme == "http" {
		return tcp, err
	}
	c := tls.Client(tcp, &tls.Config{ServerName: proxy.Hostname(), RootCAs: d.roots, MinVersion: tls.VersionTLS12})
	if err := c.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return c, nil
}

// connect asks a proxy for a way to addr.
func connect(conn net.Conn, addr string, user *url.Userinfo) error {
	req := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr,
		Header: http.Header{"User-Agent": {"skerry"}},
	}
	if user != nil {
		password, _ := user.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		req.Header.Set("Proxy-Authorization", "Basic "+basic)
	}
	if err := req.Write(conn); err != nil {
		return fmt.Errorf("ask for %s: %w", addr, err)
	}
	bounded := &io.LimitedReader{R: conn, N: maxProxyAnswer}
	answer := bufio.NewReader(bounded)
	resp, err := http.ReadResponse(answer, req) //nolint:bodyclose // Close would wait for the body; the caller closes conn or goes on with it
	switch {
	case err != nil && bounded.N == 0:
		return fmt.Errorf("answer to CONNECT %s has a header of more than %d bytes", addr, maxProxyAnswer)
	case err != nil:
		return fmt.Errorf("answer to CONNECT %s: %w", addr, err)
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("CONNECT %s was answered with %q", addr, resp.Status[:min(len(resp.Status), 200)])
	case answer.Buffered() > 0:
		return errors.New("bytes behind the answer's header")
	}
	return nil
}
