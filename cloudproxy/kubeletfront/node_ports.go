package kubeletfront

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Ports knows the ports that are one node's each.
type Ports interface {
	// Ports gives all of them, and a channel that is closed when they change.
	Ports() ([]int, <-chan struct{})
	// Node tells whose a port is.
	Node(port int) (string, bool)
}

// listenAgain is the pause after ports that could not be listened on.
const listenAgain = 5 * time.Second

// nodePorts serves all ports of nodes until ctx ends.
func (s *Server) nodePorts(ctx context.Context, srv *http.Server) {
	host, _, _ := net.SplitHostPort(s.cfg.Addr)
	open := map[int]net.Listener{}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() {
		for _, ln := range open {
			_ = ln.Close()
		}
	}()
	for {
		ports, changed := s.cfg.Ports.Ports()
		for port, ln := range open {
			if !slices.Contains(ports, port) {
				_ = ln.Close()
				delete(open, port)
			}
		}
		failed := false
		for _, port := range ports {
			if open[port] != nil {
				continue
			}
			ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
			if err != nil {
				failed = true
				if ctx.Err() == nil {
					s.log.Error("port of a node can't be listened on: kubectl does not reach the node by this proxy", "port", port, "error", err)
				}
				continue
			}
			open[port] = ln
			serving.Go(func() {
				if err := srv.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
					s.log.Error("port of a node is no longer served", "port", port, "error", err)
				}
			})
		}
		var again <-chan time.Time
		if failed {
			again = time.After(listenAgain)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

// portNode is the key of the node that a connection's port names.
type portNode struct{}

// withPortNode tells by the port that r came to which node it is for. It is
// false for a port that was a node's and is no longer.
func (s *Server) withPortNode(r *http.Request) (*http.Request, bool) {
	if s.cfg.Ports == nil {
		return r, true
	}
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || addr.Port == s.port {
		return r, true
	}
	node, ok := s.cfg.Ports.Node(addr.Port)
	if !ok {
		return r, false
	}
	return r.WithContext(context.WithValue(r.Context(), portNode{}, node)), true
}
