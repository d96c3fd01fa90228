package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// headerTimeout bounds how long a connection may take to say what it wants.
	headerTimeout = 10 * time.Second
	// idleTimeout ends connections that nobody uses.
	idleTimeout = time.Minute
	// closeTimeout bounds how long requests may take to end once they are canceled.
	closeTimeout = 5 * time.Second
	// socketMode and folderMode keep everybody else out.
	socketMode fs.FileMode = 0o600
	folderMode fs.FileMode = 0o700
)

// ConditionCloudConnected is the condition of the Node that says whether this edge
// has a session with the cloud, and since when.
const ConditionCloudConnected corev1.NodeConditionType = "CloudConnected"

// SocketPath is where the agent with this state directory listens.
func SocketPath(stateDir string) string { return filepath.Join(stateDir, "run", "agent.sock") }

// Source is what the agent knows.
type Source interface {
	// Pods gives the pods of this edge with their status as it is now.
	Pods() Pods
	// Node gives this edge as a Node.
	Node(ctx context.Context) *corev1.Node
	// ConfigMaps gives those that pods of this edge name; empty means any.
	ConfigMaps(namespace, name string) ([]corev1.ConfigMap, error)
}

// Pods is the answer about pods.
type Pods struct {
	Pods []corev1.Pod `json:"pods"`
	// Problems are files that should be pods and can't be, a line each.
	Problems []string `json:"problems,omitempty"`
}

// Config is what a Server needs.
type Config struct {
	// Socket is the path to listen at. Its folder is made, and made private.
	Socket string
	// Source is what there is to tell. Required.
	Source Source
	// Kubelet serves containers' logs at the kubelet's paths. Required.
	Kubelet http.Handler
	// Exec serves one command on a connection, by the frames of KindExec. Required.
	Exec func(ctx context.Context, conn net.Conn)
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Server answers root on this machine.
type Server struct {
	cfg   Config
	execs sync.WaitGroup
}

// New checks cfg. Run does the work.
func New(cfg Config) (*Server, error) {
	if cfg.Socket == "" || cfg.Source == nil || cfg.Kubelet == nil || cfg.Exec == nil {
		return nil, errors.New("local server: Socket, Source, Kubelet and Exec are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg}, nil
}

// Run serves until ctx ends. An edge whose socket can't be made runs its pods all
// the same: that is logged, and Run waits.
func (s *Server) Run(ctx context.Context) error {
	ln, err := listen(s.cfg.Socket)
	if err != nil {
		s.cfg.Log.Error("`skerry get`, `logs` and `exec` do not work on this machine", "error", err)
		<-ctx.Done()
		return nil
	}
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	err = srv.Serve(&rootListener{UnixListener: ln, self: os.Geteuid(), log: s.cfg.Log})
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if srv.Shutdown(bounded) != nil {
		_ = srv.Close()
	}
	s.execs.Wait() // Shutdown does not know of connections that were taken over
	if ctx.Err() != nil {
		return nil // the listener was closed by us
	}
	return fmt.Errorf("serve %s: %w", s.cfg.Socket, err)
}

// listen makes the socket. One that is there already is a dead agent's: this one
// holds the lock of the state directory's store.
func listen(path string) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return nil, fmt.Errorf("make the folder of the local socket: %w", err)
	}
	// Before the socket is there: between bind and chmod only the folder guards it.
	if err := os.Chmod(dir, folderMode); err != nil {
		return nil, fmt.Errorf("make the folder of the local socket private: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the local socket of a former agent: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at the local socket: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("make the local socket private: %w", err), ln.Close())
	}
	return ln, nil
}

// rootListener accepts only root, and who the agent runs as.
type rootListener struct {
	*net.UnixListener
	self int
	log  *slog.Logger
}

// Accept implements net.Listener.
func (l *rootListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && (uid == 0 || uid == l.self) {
			return conn, nil
		}
		l.log.Warn("local connection refused: it is not root's", "uid", uid, "error", err)
		_ = conn.Close()
	}
}
