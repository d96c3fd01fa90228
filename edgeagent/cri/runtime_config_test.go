package cri

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestCgroupDriver(t *testing.T) {
	// As containerd 1.6 shows it, but for what nobody here reads.
	const shown = `{"containerd":{"defaultRuntimeName":"runc","runtimes":{
		"runc":{"runtimeType":"io.containerd.runc.v2","options":{"SystemdCgroup":true}},
		"kata":{"runtimeType":"io.containerd.kata.v2","options":null},"old":{"options":{}}}},"sandboxImage":"pause"}`
	systemd := &runtimev1.LinuxRuntimeConfiguration{CgroupDriver: runtimev1.CgroupDriver_SYSTEMD}
	cgroupfs := &runtimev1.LinuxRuntimeConfiguration{CgroupDriver: runtimev1.CgroupDriver_CGROUPFS}
	for name, tt := range map[string]struct {
		driver *runtimev1.LinuxRuntimeConfiguration
		config string
		want   string
		fails  bool
	}{
		"call, systemd":   {systemd, "", "systemd", false},
		"call, cgroupfs":  {cgroupfs, shown, "cgroupfs", false},
		"shown, systemd":  {nil, shown, "systemd", false},
		"shown, left out": {nil, `{"containerd":{"defaultRuntimeName":"old","runtimes":{"old":{"options":{}}}}}`, "cgroupfs", false},
		// containerd 2 passes over a handler without options, and answers for the next.
		"call, of another handler": {systemd, `{"containerd":{"defaultRuntimeName":"crun","runtimes":{
			"crun":{"runtimeType":"io.containerd.runc.v2","options":null},"runc":{"runtimeType":"io.containerd.runc.v2","options":{"SystemdCgroup":true}}}}}`, "cgroupfs", false},
		"call, of no runc": {systemd, `{"containerd":{"defaultRuntimeName":"kata","runtimes":{
			"kata":{"runtimeType":"io.containerd.kata.v2","options":null}}}}`, "systemd", false},
		"call, and shown":     {systemd, shown, "systemd", false},
		"call, shows no JSON": {systemd, "x", "systemd", false},
		"other runtime":       {nil, `{"sandboxImage":"pause"}`, "", false},
		"nothing is shown":    {nil, "", "", false},
		"no JSON":             {nil, "x", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			c, s := start(t)
			s.config, s.driver = tt.config, tt.driver
			got, err := c.CgroupDriver(t.Context())
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestRuntimeConfig(t *testing.T) {
	for _, tt := range []struct {
		name, config, image string
		setup               Setup
	}{
		{
			"containerd 1.6", `{"sandboxImage":"pause:1","cni":{"binDir":"/opt/cni/bin","confDir":"/etc/cni/net.d","maxConfNum":1},"rootDir":"/var/lib"}`, "pause:1",
			Setup{CNIConf: "/etc/cni/net.d", CNIBin: []string{"/opt/cni/bin"}},
		},
		{
			"containerd 2.1", `{"cni":{"binDir":"","binDirs":["/opt/cni/bin","/usr/lib/cni"],"confDir":"/srv/net.d"},"containerd":{
				"defaultRuntimeName":"runc","runtimes":{"runc":{"options":{"SystemdCgroup":true}}}}}`, "",
			Setup{CNIConf: "/srv/net.d", CNIBin: []string{"/opt/cni/bin", "/usr/lib/cni"}, CgroupDriver: "systemd"},
		},
		{"CRI-O", `{"sandboxImage":"pause:2"}`, "pause:2", Setup{}},
		{"none", "", "", Setup{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := start(t)
			s.config = tt.config
			image, err := c.SandboxImage(t.Context())
			if err != nil || image != tt.image {
				t.Errorf("image %q, %v, want %q", image, err, tt.image)
			}
			setup, err := c.Setup(t.Context())
			if d := cmp.Diff(tt.setup, setup); err != nil || d != "" {
				t.Errorf("%v, (-want +got):\n%s", err, d)
			}
			if s.verbose != 2 {
				t.Errorf("asked %d times for all that it shows, want once for each question", s.verbose)
			}
		})
	}
	c, s := start(t)
	s.config = "{"
	if _, err := c.Setup(t.Context()); err == nil {
		t.Error("half a configuration is none")
	}
}
