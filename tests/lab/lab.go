package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Namespace is where the cloud half lives in the cluster.
const Namespace = "skerry-system"

// Config says where a lab lives and what it may use. Two labs run side by side
// when Dir, Name, PortBase and Net differ.
type Config struct {
	Dir      string // everything lies below it
	BinDir   string // cloudproxy, edgeagent, skerry, linkemu, devcluster, kubectl
	Name     string // part of the names of devices, namespaces and cgroups; at most 8 letters
	PortBase int    // the first of the ports in use in the root namespace, see ports
	Net      int    // third number of the cloud's address; edge n has the n-th after it
	// Manifests is what the cluster needs for the cloud proxy, as YAML.
	Manifests []byte
	// VerifyKubelets makes kube-apiserver verify the proxy's certificate.
	VerifyKubelets bool
	// ProxyArgs are further flags of the cloud proxy.
	ProxyArgs []string
	// Registry is an address in the edges' namespaces, see Edge.Listen, from which
	// images of every registry are pulled. Empty leaves them where they are.
	Registry string
	// Log tells each step; nil discards.
	Log *slog.Logger
}

// Lab is an environment. Its methods are not meant to be called at once.
type Lab struct {
	cfg Config
	log *slog.Logger
	// proxyArgs are flags beside those of cfg.
	proxyArgs []string
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Lab, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for field, v := range map[string]string{"Dir": cfg.Dir, "BinDir": cfg.BinDir, "Name": cfg.Name} {
		if v == "" {
			return nil, fmt.Errorf("lab: %s is empty", field)
		}
	}
	if len(cfg.Name) > 8 {
		return nil, fmt.Errorf("lab: Name %q is longer than 8 letters", cfg.Name)
	}
	if cfg.PortBase < 1024 || cfg.PortBase > 60000 {
		return nil, fmt.Errorf("lab: PortBase %d is not between 1024 and 60000", cfg.PortBase)
	}
	if cfg.Net < 1 || cfg.Net > 200 {
		return nil, fmt.Errorf("lab: Net %d is not between 1 and 200", cfg.Net)
	}
	for _, p := range []*string{&cfg.Dir, &cfg.BinDir} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		*p = abs
	}
	return &Lab{cfg: cfg, log: cfg.Log}, nil
}

// RestartProxy starts the cloud proxy anew with flags beside those of Config, which
// later starts keep.
func (l *Lab) RestartProxy(ctx context.Context, args ...string) error {
	if err := l.HaltProxy(ctx); err != nil {
		return err
	}
	l.proxyArgs = args
	return l.StartProxy(ctx)
}

// NodePorts is a range of ports for edges.
func (l *Lab) NodePorts() string { return fmt.Sprintf("%d-%d", l.cfg.PortBase+20, l.cfg.PortBase+99) }

// proxyPorts are those of one cloud proxy.
type proxyPorts struct{ tunnel, kubelet, admin int }

// The ports after those of the dev cluster, which takes five.
func (l *Lab) proxyPorts() proxyPorts   { return portsFrom(l.cfg.PortBase + 10) }
func (l *Lab) replicaPorts() proxyPorts { return portsFrom(l.cfg.PortBase + 13) }

func portsFrom(n int) proxyPorts { return proxyPorts{n, n + 1, n + 2} }

// Path names a file below the lab's directory.
func (l *Lab) Path(elem ...string) string {
	return filepath.Join(append([]string{l.cfg.Dir}, elem...)...)
}

// Bin names one of the product's programs.
func (l *Lab) Bin(name string) string { return filepath.Join(l.cfg.BinDir, name) }

// LogFile is where the output of a daemon of this lab goes.
func (l *Lab) LogFile(daemon string) string { return l.Path("log", daemon+".log") }

// CloudAddr is the address under which edges and kube-apiserver reach the proxy.
func (l *Lab) CloudAddr() netip.Addr { return address(l.cfg.Net, 1) }

// Server is what an edge joins.
func (l *Lab) Server() string { return l.serverAt(l.proxyPorts()) }

// ReplicaServer is what an edge has as its server that is to be at the second proxy, see
// StartReplica.
func (l *Lab) ReplicaServer() string { return l.serverAt(l.replicaPorts()) }

func (l *Lab) serverAt(ports proxyPorts) string {
	return netip.AddrPortFrom(l.CloudAddr(), uint16(ports.tunnel)).String()
}

// AdminURL is the base of the proxy's health and metrics.
func (l *Lab) AdminURL() string { return "http://" + adminAddr(l.proxyPorts()) }

func address(network, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 201, byte(network), byte(host)})
}

// Check says what this machine lacks, all at once.
func (l *Lab) Check() error {
	var lacks []string
	if os.Geteuid() != 0 {
		lacks = append(lacks, "root")
	}
	for path, pkg := range map[string]string{
		"/bin/busybox": "busybox-static", "/dev/net/tun": "TUN in the kernel", cniBin + "/bridge": "containernetworking-plugins",
		l.Bin("devcluster"): "make build", l.Bin("kubectl"): "make build", l.Bin("linkemu"): "make build",
		l.Bin("cloudproxy"): "make build", l.Bin("edgeagent"): "make build", l.Bin("skerry"): "make build",
	} {
		if _, err := os.Stat(path); err != nil {
			lacks = append(lacks, fmt.Sprintf("%s (%s)", path, pkg))
		}
	}
	for program, pkg := range map[string]string{
		"containerd": "containerd", "ctr": "containerd", "runc": "runc", "iptables": "iptables",
		"ip": "iproute2", "nsenter": "util-linux", "gcc": "gcc and libc6-dev",
	} {
		if lookPath(program) == "" {
			lacks = append(lacks, fmt.Sprintf("%s (%s)", program, pkg))
		}
	}
	if len(lacks) > 0 {
		slices.Sort(lacks)
		return errors.New("this machine lacks " + strings.Join(lacks, ", "))
	}
	return nil
}

// Up brings up cluster and proxy. Edges come after, see Edge.Up.
func (l *Lab) Up(ctx context.Context) error {
	if err := l.UpCluster(ctx); err != nil {
		return err
	}
	return l.StartProxy(ctx)
}

// UpCluster brings up the cluster alone.
func (l *Lab) UpCluster(ctx context.Context) error {
	if err := l.Check(); err != nil {
		return err
	}
	for _, dir := range []string{"log", "run"} {
		if err := os.MkdirAll(l.Path(dir), 0o755); err != nil {
			return err
		}
	}
	return l.StartCluster(ctx)
}

// Edges are the edges that have left something in the lab's directory.
func (l *Lab) Edges() ([]*Edge, error) {
	entries, err := os.ReadDir(l.Path("edges"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var edges []*Edge
	for _, entry := range entries {
		n, err := os.ReadFile(l.Path("edges", entry.Name(), "number"))
		if err != nil {
			continue // not even begun
		}
		i, err := strconv.Atoi(strings.TrimSpace(string(n)))
		if err != nil {
			return nil, fmt.Errorf("edge %s: %w", entry.Name(), err)
		}
		e, err := l.Edge(entry.Name(), i)
		if err != nil {
			return nil, err
		}
		edges = append(edges, e)
	}
	return edges, nil
}

// Down stops everything in reverse order and removes all but programs, logs
// and images. It goes on after an error, so that one obstacle does not keep
// the rest; calling it again is harmless.
func (l *Lab) Down(ctx context.Context) error {
	edges, err := l.Edges()
	errs := []error{err}
	for _, e := range edges {
		errs = append(errs, e.Down(ctx))
	}
	errs = append(errs, l.StopProxy(ctx), l.StopCluster(ctx))
	errs = append(errs, killStrays(ctx, l.mark()), unmountBelow(ctx, l.cfg.Dir), removeCgroups(ctx, l.cgroupRoot()))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, dir := range []string{"edges", "cluster", "run", "proxy", "kubeconfig"} {
		errs = append(errs, os.RemoveAll(l.Path(dir)))
	}
	return errors.Join(errs...)
}
