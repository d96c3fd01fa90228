package local

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The paths and the protocol of commands.
const (
	pathPods       = "/v1/pods"
	pathNode       = "/v1/node"
	pathConfigMaps = "/v1/configmaps"
	pathExec       = "/v1/exec"
	pathLogs       = "/containerLogs/"
	execProtocol   = "skerry-exec"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathPods, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, s.cfg.Source.Pods())
	})
	mux.HandleFunc("GET "+pathNode, func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, s.cfg.Source.Node(r.Context()))
	})
	mux.HandleFunc("GET "+pathConfigMaps, s.configMaps)
	mux.HandleFunc("GET "+pathExec, s.exec)
	mux.Handle("GET "+pathLogs, s.cfg.Kubelet)
	return mux
}

func (s *Server) configMaps(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	items, err := s.cfg.Source.ConfigMaps(q.Get("namespace"), q.Get("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(w, corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}, Items: items})
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

// exec takes the connection over for one command.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != execProtocol {
		w.Header().Set("Upgrade", execProtocol)
		http.Error(w, "commands need an upgrade to "+execProtocol, http.StatusUpgradeRequired)
		return
	}
	s.execs.Add(1)
	defer s.execs.Done()
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + execProtocol + "\r\n\r\n")
	if rw.Flush() != nil {
		return
	}
	s.cfg.Exec(r.Context(), &upgraded{Conn: conn, r: rw.Reader})
}

// upgraded is a connection of which a reader may hold some bytes already.
type upgraded struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (u *upgraded) Read(b []byte) (int, error) { return u.r.Read(b) }

// CloseWrite ends one direction, as the stream of a tunnel can.
func (u *upgraded) CloseWrite() error {
	if c, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
