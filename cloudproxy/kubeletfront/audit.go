package kubeletfront

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What a line of the log holds at most: a script can be a command's argument, and
// an edge says how a command ended.
const (
	maxCommand   = 1 << 10 // bytes of all arguments
	maxArguments = 32
	maxPath      = 256
	maxEnded     = 256
)

// stream is the account of one open stream.
type stream struct {
	s   *Server
	req *request
	// command is the command of an exec, ports are those of a forwarding.
	command []string
	ports   portList
	// in counts what the caller sent, out what it got.
	in, out atomic.Int64
	release func()
	once    sync.Once // close
}

// openStream takes a place for a stream and begins its account.
func (s *Server) openStream(req *request) (*stream, error) {
	release, err := s.limits.acquire(req.node)
	if err != nil {
		return nil, err
	}
	s.metrics.streams.WithLabelValues(req.kind.String()).Inc()
	return &stream{s: s, req: req, release: release}, nil
}

// close ends the account with one line for people who ask who did what. Only the
// first call counts.
func (a *stream) close(ended string) { a.once.Do(func() { a.end(ended) }) }

func (a *stream) end(ended string) {
	a.release()
	took, k := time.Since(a.req.start), a.req.kind.String()
	m := a.s.metrics
	m.streams.WithLabelValues(k).Dec()
	m.seconds.WithLabelValues(k).Observe(took.Seconds())
	m.bytes.WithLabelValues(k, "in").Add(float64(a.in.Load()))
	m.bytes.WithLabelValues(k, "out").Add(float64(a.out.Load()))
	log := a.s.log.With("kind", k, "user", a.req.user.GetName(), "node", a.req.node)
	if a.req.kind == kindNode {
		tell := log.Info
		if !isLogFile(a.req.path) {
			tell = log.Debug // scrapes come every few seconds and touch no workload
		}
		tell("stream ended", "path", bounded(a.req.path, maxPath), "bytes_out", a.out.Load(), "duration", took, "ended", bounded(ended, maxEnded),
			"remote", a.req.remote, "client", a.req.client)
		return
	}
	if a.req.kind == kindDevice {
		a.endDevice(log, took, ended)
		return
	}
	if ports := a.ports.list(); len(ports) > 0 {
		log = log.With("ports", ports)
	}
	log.Info("stream ended",
		"namespace", a.req.namespace, "pod", a.req.pod, "container", a.req.container, "command", boundedCommand(a.command),
		"bytes_in", a.in.Load(), "bytes_out", a.out.Load(), "duration", took, "ended", bounded(ended, maxEnded), "pod_uid", a.req.podUID,
		"remote", a.req.remote, "client", a.req.client)
}

// isLogFile tells the machine's own logs, among which are those of its pods.
func isLogFile(path string) bool { return path == "/logs" || strings.HasPrefix(path, "/logs/") }

// portList is the ports that a caller has forwarded to, each once and in the order
// in which they came.
type portList struct {
	mu    sync.Mutex // guards the following field
	ports []uint16
}

func (l *portList) add(port uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ports) < maxArguments && !slices.Contains(l.ports, port) {
		l.ports = append(l.ports, port)
	}
}

func (l *portList) list() []uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ports)
}

// from tells where a request comes from: the peer's address, and, of requests that
// kube-apiserver passes on, the client's, which it appends to X-Forwarded-For.
// That list's other addresses are whatever the client likes.
func from(r *http.Request) (remote, client string) {
	remote = r.RemoteAddr
	if host, _, err := net.SplitHostPort(remote); err == nil {
		remote = host
	}
	all := r.Header.Values("X-Forwarded-For")
	if len(all) == 0 {
		return remote, ""
	}
	list := strings.Split(all[len(all)-1], ",")
	if ip, err := netip.ParseAddr(strings.TrimSpace(list[len(list)-1])); err == nil {
		client = ip.String()
	}
	return remote, client
}

// bounded cuts what a caller or an edge can make as long as they like.
func bounded(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// boundedCommand keeps the beginning of a command. What was cut off is counted.
func boundedCommand(command []string) []string {
	var kept []string
	left := maxCommand
	for i, arg := range command {
		if left <= 0 || i == maxArguments {
			return append(kept, fmt.Sprintf("... %d more", len(command)-i))
		}
		kept = append(kept, bounded(arg, left))
		left -= len(arg)
	}
	return kept
}
