package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// httpProxy is a small CONNECT proxy. All names lead to one address.
type httpProxy struct {
	addr string
	to   string // where all names lead

	mu   sync.Mutex // guards the following fields
	asks []string   // host and credentials of each request
}

// newHTTPProxy answers each CONNECT with the given text, and passes bytes on after it if
// that says 200. conf makes it an https:// proxy.
func newHTTPProxy(t *testing.T, to, answer string, conf *tls.Config) *httpProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if conf != nil {
		ln = tls.NewListener(ln, conf)
	}
	p := &httpProxy{addr: ln.Addr().String(), to: to}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				p.serve(c, answer)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return p
}

func (p *httpProxy) serve(c net.Conn, answer string) {
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.asks = append(p.asks, strings.TrimSpace(req.Method+" "+req.Host+" "+req.Header.Get("Proxy-Authorization")))
	p.mu.Unlock()
	if _, err := io.WriteString(c, answer); err != nil || !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		_, _ = io.Copy(io.Discard, in) // until the client leaves
		return
	}
	up, err := net.Dial("tcp", p.to) //nolint:noctx // ends with the test's listener
	if err != nil {
		return
	}
	defer up.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(c, up)
		c.Close()
	}()
	_, _ = io.Copy(up, in)
	up.Close()
	<-back
}

func (p *httpProxy) asked() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.asks, ", ")
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

const established = "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"

func TestProxyCarriesConnection(t *testing.T) {
	ca := newAuthority(t)
	l := loopback(t, ca.server())
	plain := newHTTPProxy(t, l.Addr().String(), established, nil)
	secured := ca.server()
	secured.ClientAuth, secured.VerifyConnection, secured.NextProtos = tls.NoClientCert, nil, nil
	encrypted := newHTTPProxy(t, l.Addr().String(), established, secured)
	tests := []struct {
		name  string
		proxy *httpProxy
		env   []string
		want  string
	}{
		{"http", plain, []string{"HTTPS_PROXY", "http://" + plain.addr}, "CONNECT cloud.example:7443"},
		{"no scheme", plain, []string{"https_proxy", plain.addr}, "CONNECT cloud.example:7443"},
		{"credentials", plain, []string{"HTTPS_PROXY", "http://us%40er:p%3Ass@" + plain.addr, "NO_PROXY", "other.example"}, "CONNECT cloud.example:7443 Basic dXNAZXI6cDpzcw=="},
		{"https", encrypted, []string{"HTTPS_PROXY", "https://user@" + encrypted.addr}, "CONNECT cloud.example:7443 Basic dXNlcjo="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := proxyDialer{env: env(tt.env...), roots: ca.ca.Pool()}
			tt.proxy.asks = nil
			c, err := DialTLS(t.Context(), d.dial, "cloud.example:7443", ca.client("edge-1"), 0)
			if err != nil {
				t.Fatal(err)
			}
			cloud, err := l.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			fromCloud, fromEdge := read(t, c), read(t, cloud)
			if _, err := openLane(t, c, 0).Write(frame("through")); err != nil {
				t.Fatal(err)
			}
			<-fromEdge.frames
			if s := c.Stats(); s.PacketsSent == 0 || s.RTT == 0 {
				t.Errorf("no socket below the proxy's connection: %+v", s)
			}
			cloud.Close(wire.CodeReplaced, "enough")
			ended(t, <-fromCloud.end, wire.CodeReplaced, true)
			if got := tt.proxy.asked(); got != tt.want {
				t.Errorf("the proxy was asked for %q, want %q", got, tt.want)
			}
		})
	}
}

func TestProxyRefuses(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"credentials", "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 1000000\r\n\r\n", "407 Proxy Authentication Required"},
		{"host", "HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"},
		{"long status", "HTTP/1.1 500 " + strings.Repeat("x", 1000) + "\r\n\r\n", "500 xxx"},
		{"endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 3000), "more than 16384 bytes"},
		{"no HTTP", "SSH-2.0-OpenSSH\r\n\r\n", "malformed HTTP"},
		{"bytes behind the header", "HTTP/1.1 299 OK\r\n\r\nhello", "bytes behind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newHTTPProxy(t, "", tt.answer, nil)
			dial := ProxyDialer(env("HTTPS_PROXY", "http://user:hunter2@"+p.addr))
			c, err := dial(t.Context(), "tcp", "cloud.example:7443")
			if err == nil {
				c.Close()
				t.Fatal("no error")
			}
			text := err.Error()
			if !strings.Contains(text, tt.want) || !strings.Contains(text, p.addr) || strings.Contains(text, "hunter2") || len(text) > 500 {
				t.Errorf("error %q, want %q in it", text, tt.want)
			}
		})
	}
}

func TestProxyFromEnvironment(t *testing.T) {
	tests := []struct {
		name, proxy, noProxy string
		want                 string // host, "" for none
		err                  string
	}{
		{"none", "", "", "", ""},
		{"port by scheme", "http://proxy", "", "proxy:80", ""},
		{"port by scheme", "HTTPS://proxy", "", "proxy:443", ""},
		{"IPv6", "http://[2001:db8::1]", "", "[2001:db8::1]:80", ""},
		{"host and port", "10.0.0.1:3128", "", "10.0.0.1:3128", ""},
		{"host", "proxy", "", "proxy:80", ""},
		{"excluded", "http://proxy:80", ".example", "", ""},
		{"all excluded", "socks5://proxy:80", "*", "", ""},
		{"another excluded", "http://proxy:80", "other.example", "proxy:80", ""},
		{"socks", "socks5://user:hunter2@proxy:1080", "", "", `"socks5" are not supported`},
		{"broken", "http://user:hunter2@pro xy:80", "", "", "is not the URL of a proxy"},
		{"no host", "http://user:hunter2@:80", "", "", "is not the URL of a proxy"},
		{"no port", "http://user:hunter2@proxy:port", "", "", "is not the URL of a proxy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := proxyDialer{env: env("HTTPS_PROXY", tt.proxy, "no_proxy", tt.noProxy)}
			u, err := d.proxy("cloud.example:7443")
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s: error %v, want %q in it", tt.proxy, err, tt.err)
				}
			case err != nil:
				t.Errorf("%s: %v", tt.proxy, err)
			case u == nil && tt.want != "" || u != nil && u.Host != tt.want:
				t.Errorf("%s: proxy %v, want %q", tt.proxy, u, tt.want)
			}
		})
	}
	// Without a proxy it is plain TCP, and to this machine there never is one.
	ca := newAuthority(t)
	l := loopback(t, ca.server())
	for _, dial := range []Dialer{ProxyDialer(env()), ProxyDialer(env("HTTPS_PROXY", "http://proxy.invalid"))} {
		c, err := DialTLS(t.Context(), dial, l.Addr().String(), ca.client("edge-1"), 0)
		if err != nil {
			t.Fatal(err)
		}
		c.Close(wire.CodeOK, "")
	}
}

func TestProxyIsSilent(t *testing.T) {
	p := newHTTPProxy(t, "", "", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	dial := ProxyDialer(env("HTTPS_PROXY", p.addr))
	if _, err := dial(ctx, "tcp", "cloud.example:7443"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// And one that is not there.
	_, err := ProxyDialer(env("HTTPS_PROXY", "http://127.0.0.1:1"))(t.Context(), "tcp", "cloud.example:7443")
	if err == nil || !strings.Contains(fmt.Sprint(err), "proxy 127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}
