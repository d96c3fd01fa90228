package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/edgeagent/config"
)

// TestCgroupDriver: who says what, and what comes of it.
func TestCgroupDriver(t *testing.T) {
	const here = "/" // stands for a systemd that runs
	absent := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct{ configured, told, systemd, note, fault string }{
		{config.Auto, config.Systemd, here, "systemd", ""},
		{config.Auto, config.Cgroupfs, absent, "cgroupfs", ""},
		{config.Systemd, "", here, "systemd", ""},
		{config.Cgroupfs, "", here, "cgroupfs", ""},
		{config.Auto, "", here, "", "does not tell"},
		{config.Auto, config.Systemd, absent, "", "SystemdCgroup = false"},
		{config.Systemd, "", absent, "", "does not run here"},
		{config.Cgroupfs, config.Systemd, here, "", "take cgroupDriver out of edgeagent.yaml"},
		{config.Systemd, config.Cgroupfs, here, "", "take cgroupDriver out of edgeagent.yaml"},
	} {
		note, err := hostFacts{systemd: c.systemd}.cgroupDriver(c.configured, runtimeState{cgroupDriver: c.told})
		if note != c.note || (err != nil) != (c.fault != "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%+v: got %q, %v", c, note, err)
		}
	}
}
