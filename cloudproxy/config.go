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

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/cloudproxy/ports"
	"github.com/skerry-io/skerry/cloudproxy/samples"
)

// minLifetime is the shortest life of a certificate: on a bad link a renewal takes some
// seconds, and one is due after two thirds.
const minLifetime = 15 * time.Second

// Config is what a Server needs.
type Config struct {
	// Client talks to the cluster. Required.
	Client kubernetes.Interface
	// Dynamic talks to it about Devices. Nil means that there are none.
	Dynamic dynamic.Interface
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
	// NodeAddressing says how kube-apiserver finds an edge at NodeAddress; empty means
	// AddressingAuto.
	NodeAddressing Addressing
	// NodePorts is the range, FIRST-LAST, of the ports of AddressingPorts; empty means
	// 20000-24999.
	NodePorts string
	// AdminListen is the address for probes and metrics.
	AdminListen string
	// Drain is how long what runs may run on when the Server is to stop; zero means
	// not at all.
	Drain time.Duration
	// Bounds are what edges can make the Server hold.
	Bounds Bounds
	// TolerationSeconds is for how long kube-apiserver lets pods that do not say so
	// bear a node that is away; zero means 300. Pods of edges that have it bear it
	// for ever.
	TolerationSeconds int64
	// EdgeCertificateLifetime is how long edges' certificates last, and EdgeRenewalGrace
	// how long after that they can be renewed; zero means 30 and 90 days.
	EdgeCertificateLifetime, EdgeRenewalGrace time.Duration
	// Samples is where samples of devices go; without a URL edges send none.
	Samples samples.Config
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
	ports     ports.Range // of nodes; zero when they have none
}

func (c *Config) fill() (addresses, error) {
	if c.Client == nil {
		return addresses{}, errors.New("cloud proxy: Client is required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if d := c.EdgeCertificateLifetime; d != 0 && d < minLifetime {
		return addresses{}, &ConfigError{"edge-certificate-lifetime", fmt.Sprintf("%s is shorter than %s", d, minLifetime)}
	}
	if c.EdgeRenewalGrace < 0 {
		return addresses{}, &ConfigError{"edge-renewal-grace", "is negative"}
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
	if a.ports, err = c.nodePorts(); err != nil {
		return a, err
	}
	adminPort, err := portOf("admin-listen", c.AdminListen)
	if err != nil {
		return a, err
	}
	for flag, port := range map[string]uint16{"listen": port, "kubelet-listen": kubeletPort, "admin-listen": adminPort} {
		if a.ports.Contains(int(port)) && port != 0 {
			return a, &ConfigError{"node-ports", fmt.Sprintf("%s contains the port of --%s", c.NodePorts, flag)}
		}
	}
	if err := c.Bounds.check(); err != nil {
		return a, err
	}
	if c.TolerationSeconds < 0 {
		return a, &ConfigError{"default-toleration-seconds", "is below zero"}
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
