package controlplane

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNewRejects(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no directory", Config{}, "--dir"},
		{"ports past the end", Config{Dir: "d", PortBase: 65533}, "port base 65533"},
		{"negative port", Config{Dir: "d", PortBase: -1}, "port base -1"},
		{"unknown component", Config{Dir: "d", Extra: map[string][]string{"kubelet": {"--v=2"}}}, `"kubelet"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.cfg)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestNewMakesDirAbsolute(t *testing.T) {
	p := newPlane(t, Config{Dir: "relative"})
	if !filepath.IsAbs(p.cfg.Dir) {
		t.Errorf("directory %s; components run in /, so it must be absolute", p.cfg.Dir)
	}
}

func TestArguments(t *testing.T) {
	loopback := Config{Dir: "/d"}
	outward := Config{Dir: "/d", Address: netip.MustParseAddr("10.9.8.7"), PortBase: 7000}
	everywhere := Config{Dir: "/d", Address: netip.MustParseAddr("0.0.0.0")}
	extra := Config{Dir: "/d", Extra: map[string][]string{Scheduler: {"--v=4"}}}
	for _, tc := range []struct {
		name      string
		cfg       Config
		component string
		want      []string
		not       string
	}{
		{"loopback", loopback, APIServer, []string{
			"--bind-address=127.0.0.1", "--secure-port=16443", "--advertise-address=127.0.0.1",
			"--endpoint-reconciler-type=none", "--etcd-servers=http://127.0.0.1:16444", "--service-cluster-ip-range=10.96.0.0/16",
		}, "--kubelet-certificate-authority"},
		{"own address", outward, APIServer, []string{
			"--bind-address=10.9.8.7", "--secure-port=7000", "--advertise-address=10.9.8.7", "--etcd-servers=http://127.0.0.1:7001",
		}, "--endpoint-reconciler-type"},
		{"all addresses", everywhere, APIServer, []string{"--bind-address=0.0.0.0"}, "--advertise-address"},
		{"etcd", outward, Etcd, []string{
			"--listen-client-urls=http://127.0.0.1:7001", "--listen-peer-urls=http://127.0.0.1:7002", "--data-dir=/d/etcd",
		}, "0.0.0.0"},
		{"controllers", outward, ControllerManager, []string{
			"--secure-port=7003", "--bind-address=127.0.0.1", "--controllers=*,bootstrapsigner,tokencleaner",
		}, "--v="},
		{"extra", extra, Scheduler, []string{"--secure-port=16447", "--v=4"}, "--controllers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := newPlane(t, tc.cfg).arguments(tc.component)
			for _, want := range tc.want {
				if !slices.Contains(args, want) {
					t.Errorf("no %s in %q", want, args)
				}
			}
			if slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, tc.not) }) {
				t.Errorf("%s in %q", tc.not, args)
			}
		})
	}
}

func TestExtraComesLast(t *testing.T) {
	p := newPlane(t, Config{Dir: "/d", Extra: map[string][]string{APIServer: {"--secure-port=1"}}})
	if args := p.arguments(APIServer); args[len(args)-1] != "--secure-port=1" {
		t.Errorf("last argument %s; flags given by the caller must win", args[len(args)-1])
	}
}

func TestPlanesSideBySideShareNoPort(t *testing.T) {
	taken := map[netip.AddrPort]string{}
	for _, base := range []int{16443, 16443 + ports} {
		p := newPlane(t, Config{Dir: "/d", PortBase: base})
		for _, wave := range waves() {
			for _, name := range wave {
				for _, addr := range p.listens(name) {
					if other, ok := taken[addr]; ok {
						t.Errorf("%s and %s both use %s", name, other, addr)
					}
					taken[addr] = name
				}
			}
		}
	}
	if len(taken) != 2*ports {
		t.Errorf("%d ports in use, want %d", len(taken), 2*ports)
	}
}

func TestPurgeKeepsForeignFiles(t *testing.T) {
	p := newPlane(t, Config{})
	foreign := filepath.Join(p.cfg.Dir, "thesis.txt")
	if err := replaceFile(foreign, []byte("three years")); err != nil {
		t.Fatal(err)
	}
	if err := p.Down(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got := readString(foreign); got != "three years" {
		t.Errorf("purge took a foreign file: %q", got)
	}
	if _, err := p.process(Etcd); err != nil {
		t.Error(err)
	}
}
