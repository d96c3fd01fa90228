package cloudproxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"k8s.io/client-go/kubernetes"
)

// Config is what a Server needs.
type Config struct {
	// Client talks to the cluster. Required.
	Client kubernetes.Interface
	// Namespace holds the proxy's own objects; empty means skerry-system.
	Namespace string
	// Listen is the address for edges: UDP for sessions, TCP for enrolment.
	Listen string
	// Advertise are the HOST or HOST:PORT under which edges reach Listen; a missing
	// port is Listen's. At least one.
	Advertise []string
	// KubeletListen is the address where kube-apiserver finds the kubelets.
	KubeletListen string
	// NodeAddress is the IP or IP:PORT that kube-apiserver dials to reach
	// KubeletListen; a missing port is KubeletListen's. Required.
	NodeAddress string
	// AdminListen is the address for probes and metrics.
	AdminListen string
	// Drain is how long what runs may run on when the Server is to stop; zero means
	// not at all.
	Drain time.Duration
	// Bounds are what edges can make the Server hold.
	Bounds Bounds
	// EdgeMetrics adds series for each edge to the metrics.
	EdgeMetrics bool
	// Version is this build's.
	Version string
	// Log may be nil.
	Log *slog.Logger
}

// ConfigError says which setting breaks which rule.
type ConfigError struct {
	Field, Reason string
}

// Error implements error.
func (e *ConfigError) Error() string { return fmt.Sprintf("--%s: %s", e.Field, e.Reason) }

// addresses are the Config's addresses, checked and complete.
type addresses struct {
	advertise []string
	node      netip.AddrPort
}

func (c *Config) fill() (addresses, error) {
	if c.Client == nil {
		return addresses{}, errors.New("cloud proxy: Client is required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	var a addresses
	port, err := portOf("listen", c.Listen)
	if err != nil {
		return a, err
	}
	if len(c.Advertise) == 0 {
		return a, &ConfigError{"advertise-address", "is missing: edges need a name or an IP address under which they reach this proxy"}
	}
	for _, s := range c.Advertise {
		hp, err := withPort(s, port)
		if err != nil {
			return a, &ConfigError{"advertise-address", err.Error()}
		}
		a.advertise = append(a.advertise, hp)
	}
	kubeletPort, err := portOf("kubelet-listen", c.KubeletListen)
	if err != nil {
		return a, err
	}
	if c.NodeAddress == "" {
		return a, &ConfigError{"node-address", "is missing: kube-apiserver needs an IP address under which it reaches this proxy"}
	}
	hp, err := withPort(c.NodeAddress, kubeletPort)
	if err != nil {
		return a, &ConfigError{"node-address", err.Error()}
	}
	if a.node, err = netip.ParseAddrPort(hp); err != nil {
		return a, &ConfigError{"node-address", fmt.Sprintf("%q is not an IP address, or one with a port", c.NodeAddress)}
	}
	if _, err := portOf("admin-listen", c.AdminListen); err != nil {
		return a, err
	}
	if err := c.Bounds.check(); err != nil {
		return a, err
	}
	if c.Drain < 0 {
		return a, &ConfigError{"drain", "is negative"}
	}
	return a, nil
}

// portOf gives the port of the address in the setting called field.
func portOf(field, addr string) (uint16, error) {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, &ConfigError{field, fmt.Sprintf("%q is not of the form [HOST]:PORT", addr)}
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return 0, &ConfigError{field, fmt.Sprintf("port %q is not a number from 0 to 65535", p)}
	}
	return uint16(n), nil
}

// withPort completes HOST to HOST:PORT.
func withPort(s string, port uint16) (string, error) {
	if _, err := netip.ParseAddr(s); err == nil {
		return net.JoinHostPort(s, strconv.Itoa(int(port))), nil
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		host, p = s, strconv.Itoa(int(port))
	}
	if host == "" {
		return "", fmt.Errorf("%q names no host", s)
	}
	hp := net.JoinHostPort(host, p)
	if _, err := portOf("", hp); err != nil {
		return "", fmt.Errorf("%q is not HOST or HOST:PORT", s)
	}
	return hp, nil
}

// replicaName tells this proxy from others, in logs and to edges.
func replicaName() string {
	if h, err := os.Hostname(); err == nil {
		return h
	}
	return "cloudproxy"
}
