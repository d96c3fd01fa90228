// Package controlplane runs a Kubernetes control plane on one machine: the
// certificates, the kubeconfigs and the background processes of etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler.
//
// The programs themselves are linked into the devcluster binary, which starts
// itself again under their names; this package imports only the standard
// library, so its tests build in a second. Everything a control plane leaves
// behind is below one directory:
//
//	DIR/kubeconfig   the administrator's
//	DIR/pki          authorities, certificates, kubeconfigs of the components
//	DIR/etcd         data
//	DIR/log          NAME.log, and NAME.log.old of the run before
//	DIR/cache        where callers may keep the cache of kubectl
//	DIR/run          NAME.json: process id, start time, arguments; a lock file
//
// Processes outlive the caller. A process is recognised by its id together
// with its start time and the boot it belongs to, so an id that was given to
// another program meanwhile is never signalled.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Names of the components, which are also the names under which the devcluster
// binary starts itself.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

// Config says where a control plane lives and what it listens on.
type Config struct {
	// Dir holds everything the control plane writes. Required.
	Dir string
	// Program is the devcluster binary that becomes each component. Required by Up.
	Program string
	// Address is where kube-apiserver listens; zero means 127.0.0.1. The other
	// components listen on 127.0.0.1 always.
	Address netip.Addr
	// PortBase is kube-apiserver's port; the four after it are taken by etcd
	// (clients, peers), kube-controller-manager and kube-scheduler. Zero means 16443.
	PortBase int
	// ServiceCIDR is the range of Service addresses; zero means 10.96.0.0/16.
	ServiceCIDR netip.Prefix
	// Names are further host names and addresses of kube-apiserver's certificate.
	Names []string
	// Extra holds further command line flags per component; they come last and so win.
	Extra map[string][]string
	// Timeout bounds Up. Zero means three minutes: five times what a slow
	// two-core machine was seen to need.
	Timeout time.Duration
	// Out receives progress; nil discards it.
	Out io.Writer
}

// Plane is one control plane; it holds no state that is not in its directory.
type Plane struct {
	cfg   Config
	since time.Time
}

// New checks cfg and fills in what is left out. It touches nothing on disk.
func New(cfg Config) (*Plane, error) {
	if cfg.Dir == "" {
		return nil, errors.New("no directory given: say --dir DIR")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", cfg.Dir, err)
	}
	cfg.Dir = dir
	if !cfg.Address.IsValid() {
		cfg.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if cfg.PortBase == 0 {
		cfg.PortBase = 16443
	}
	if cfg.PortBase < 1 || cfg.PortBase+ports > 65536 {
		return nil, fmt.Errorf("port base %d: want 1 to %d", cfg.PortBase, 65536-ports)
	}
	if !cfg.ServiceCIDR.IsValid() {
		cfg.ServiceCIDR = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, 0, 0}), 16)
	}
	for name := range cfg.Extra {
		if name != Etcd && name != APIServer && name != ControllerManager && name != Scheduler {
			return nil, fmt.Errorf("extra flags for %q: no such component", name)
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 3 * time.Minute
	}
	if cfg.Out == nil {
		cfg.Out = io.Discard
	}
	return &Plane{cfg: cfg, since: time.Now()}, nil
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (p *Plane) Kubeconfig() string { return p.path("kubeconfig") }

func (p *Plane) path(elem ...string) string {
	return filepath.Join(append([]string{p.cfg.Dir}, elem...)...)
}

// say prints one line of progress after the seconds since the start.
func (p *Plane) say(format string, args ...any) {
	fmt.Fprintf(p.cfg.Out, "%6.1fs  %s\n", time.Since(p.since).Seconds(), fmt.Sprintf(format, args...))
}

// clientHost is the host part under which local clients reach kube-apiserver.
func (p *Plane) clientHost() string {
	if p.cfg.Address.IsUnspecified() {
		return "127.0.0.1"
	}
	return p.cfg.Address.String()
}

func (p *Plane) serverURL() string {
	return "https://" + net.JoinHostPort(p.clientHost(), strconv.Itoa(p.port(APIServer)))
}

// lock keeps two devclusters from working on one directory at a time. The
// kernel drops the lock with the process, so a killed one leaves nothing behind.
func (p *Plane) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(p.path("run"), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(p.path("run", "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; said = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		if !said {
			p.say("another devcluster works in %s: waiting for it", p.cfg.Dir)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for the lock of %s: %w", p.cfg.Dir, ctx.Err()), f.Close())
		case <-tick.C:
		}
	}
}
