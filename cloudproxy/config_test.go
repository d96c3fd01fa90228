package cloudproxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"
)

func goodConfig() Config {
	return Config{
		Client: fake.NewClientset(), Listen: ":7443", KubeletListen: ":10250", AdminListen: "127.0.0.1:7480",
		Advertise: []string{"proxy.example", "10.0.0.1:444", "2001:db8::1"}, NodeAddress: "10.0.0.5",
	}
}

func TestAddresses(t *testing.T) {
	c := goodConfig()
	a, err := c.fill()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"proxy.example:7443", "10.0.0.1:444", "[2001:db8::1]:7443"}; !slices.Equal(a.advertise, want) {
		t.Errorf("advertise: got %v, want %v", a.advertise, want)
	}
	if want := netip.MustParseAddrPort("10.0.0.5:10250"); a.node != want {
		t.Errorf("node: got %v, want %v", a.node, want)
	}
	c.NodeAddress = "10.0.0.5:99"
	if a, err = c.fill(); err != nil || a.node.Port() != 99 {
		t.Errorf("node address with a port: got %v, %v", a.node, err)
	}
}

func TestBadConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"no client", func(c *Config) { c.Client = nil }, "Client"},
		{"listen", func(c *Config) { c.Listen = "7443" }, "--listen"},
		{"listen port", func(c *Config) { c.Listen = ":x" }, "--listen"},
		{"no advertise", func(c *Config) { c.Advertise = nil }, "--advertise-address"},
		{"bad advertise", func(c *Config) { c.Advertise = []string{":1"} }, "--advertise-address"},
		{"no node address", func(c *Config) { c.NodeAddress = "" }, "--node-address"},
		{"node address is a name", func(c *Config) { c.NodeAddress = "proxy.example" }, "--node-address"},
		{"kubelet", func(c *Config) { c.KubeletListen = "" }, "--kubelet-listen"},
		{"addressing", func(c *Config) { c.NodeAddressing = "port" }, "--node-addressing"},
		{"ports", func(c *Config) { c.NodePorts = "20000" }, "--node-ports"},
		{"ports with the front's", func(c *Config) { c.NodeAddressing, c.NodePorts = AddressingPorts, "10000-10999" }, "--kubelet-listen"},
		{"admin", func(c *Config) { c.AdminListen = "x" }, "--admin-listen"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := goodConfig()
			tt.edit(&c)
			if _, err := c.fill(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error that names %s", err, tt.want)
			}
		})
	}
}

// Ctrl-C while the cluster does not answer.
func TestStopBeforeTheClusterAnswers(t *testing.T) {
	c := goodConfig()
	c.Listen, c.KubeletListen, c.AdminListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	s, err := New(c) // its cluster has no namespace kube-system
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run: %v, want the context's error", err)
	}
}
