package report

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func testNode(t *testing.T, change func(*NodeConfig)) *nodeReporter {
	t.Helper()
	cfg := NodeConfig{
		Name: "e1", Version: "0.1.0",
		Root: fstest.MapFS{
			"proc/meminfo":                   {Data: []byte("MemTotal:         131072 kB\nMemFree: 1 kB\nMemAvailable:     110000 kB\nHugePages_Total:       0\n")},
			"proc/loadavg":                   {Data: []byte("0.00 0.01 0.05 1/123 4567\n")},
			"proc/sys/kernel/pid_max":        {Data: []byte("32768\n")},
			"proc/sys/kernel/osrelease":      {Data: []byte("6.1.0\n")},
			"proc/sys/kernel/random/boot_id": {Data: []byte("boot\n")},
			"etc/machine-id":                 {Data: []byte("machine\n")},
			"etc/os-release":                 {Data: []byte("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n")},
		},
		Disk: func(string) (uint64, uint64, error) { return 1000 << 20, 500 << 20, nil },
	}
	change(&cfg)
	cfg, err := cfg.fill()
	if err != nil {
		t.Fatal(err)
	}
	return &nodeReporter{cfg: cfg, again: make(chan struct{}, 1)}
}

func TestNodeStatus(t *testing.T) {
	now := time.Unix(1000, 0)
	s := testNode(t, func(*NodeConfig) {}).status(t.Context(), now, nil)
	if got, want := s.NodeInfo.KubeletVersion, "v1.37.2-skerry.0.1.0"; got != want {
		t.Errorf("version %q, want %q", got, want)
	}
	if s.NodeInfo.OSImage != "Debian GNU/Linux 12" || s.NodeInfo.KernelVersion != "6.1.0" || s.NodeInfo.MachineID != "machine" || s.NodeInfo.BootID != "boot" {
		t.Errorf("node info: %+v", s.NodeInfo)
	}
	for name, want := range map[corev1.ResourceName]string{"memory": "128Mi", "pods": "110", "ephemeral-storage": "1000Mi"} {
		if q := s.Capacity[name]; q.String() != want {
			t.Errorf("capacity of %s = %s, want %s", name, q.String(), want)
		}
	}
	for name, want := range map[corev1.ResourceName]string{"memory": "28Mi", "ephemeral-storage": "900Mi"} {
		if q := s.Allocatable[name]; q.String() != want {
			t.Errorf("allocatable %s = %s, want %s", name, q.String(), want)
		}
	}
}

func TestNodeConditions(t *testing.T) {
	tests := []struct {
		name   string
		change func(*NodeConfig)
		want   map[corev1.NodeConditionType]corev1.ConditionStatus
	}{
		{"well", func(*NodeConfig) {}, map[corev1.NodeConditionType]corev1.ConditionStatus{}},
		{"low memory", func(c *NodeConfig) {
			c.Root = fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: 131072 kB\nMemAvailable: 50000 kB\n")}}
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{corev1.NodeMemoryPressure: "True"}},
		{"full disk", func(c *NodeConfig) {
			c.Disk = func(string) (uint64, uint64, error) { return 1000, 99, nil }
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{corev1.NodeDiskPressure: "True"}},
		{"disk not measured", func(c *NodeConfig) {
			c.Disk = func(string) (uint64, uint64, error) { return 0, 0, errors.New("no") }
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{}},
		{"processes", func(c *NodeConfig) {
			c.Root = fstest.MapFS{"proc/loadavg": {Data: []byte("0 0 0 1/950 9")}, "proc/sys/kernel/pid_max": {Data: []byte("1000")}}
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{corev1.NodePIDPressure: "True"}},
		{"no runtime", func(c *NodeConfig) {
			c.Runtime = func(context.Context) (string, error) { return "", errors.New("refused") }
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{corev1.NodeReady: "False"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := testNode(t, tt.change)
			n.log = discard()
			want := map[corev1.NodeConditionType]corev1.ConditionStatus{
				corev1.NodeMemoryPressure: "False", corev1.NodeDiskPressure: "False", corev1.NodePIDPressure: "False", corev1.NodeReady: "True",
			}
			maps.Copy(want, tt.want)
			got := make(map[corev1.NodeConditionType]corev1.ConditionStatus)
			for _, c := range n.status(t.Context(), time.Now(), nil).Conditions {
				got[c.Type] = c.Status
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNodeIsPutWhenItChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var available atomic.Uint64
		available.Store(900)
		var puts []*corev1.NodeStatus
		n := testNode(t, func(c *NodeConfig) {
			c.Disk = func(string) (uint64, uint64, error) { return 1000, available.Load(), nil }
		})
		n.log = discard()
		n.put = func(s *corev1.NodeStatus) error { puts = append(puts, s); return nil }
		ctx, cancel := context.WithCancel(t.Context())
		go n.run(ctx)
		<-time.After(time.Hour)
		synctest.Wait()
		if len(puts) != 1 {
			t.Fatalf("%d reports of a node that did not change", len(puts))
		}
		available.Store(10)
		<-time.After(nodeInterval + time.Second)
		synctest.Wait()
		if len(puts) != 2 {
			t.Fatalf("%d reports after a change", len(puts))
		}
		disk, ready := puts[1].Conditions[1], puts[1].Conditions[3]
		if !disk.LastTransitionTime.After(ready.LastTransitionTime.Time) {
			t.Errorf("transition times: disk %v, ready %v", disk.LastTransitionTime, ready.LastTransitionTime)
		}
		n.resend()
		synctest.Wait()
		if len(puts) != 3 {
			t.Errorf("%d reports after resend", len(puts))
		}
		cancel()
		synctest.Wait()
	})
}

func TestEvents(t *testing.T) {
	e := newEvents("e1")
	at := time.Unix(1000, 0)
	ref := corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: "u"}
	first := e.next(at, ref, "Normal", "Started", "started")
	if first == nil || first.Count != 1 {
		t.Fatalf("first event: %+v", first)
	}
	if ev := e.next(at.Add(time.Second), ref, "Normal", "Started", "started"); ev != nil {
		t.Errorf("repetition after a second was sent: %+v", ev)
	}
	again := e.next(at.Add(40*time.Second), ref, "Normal", "Started", "started")
	if again == nil || again.Name != first.Name || again.Count != 3 || !again.FirstTimestamp.Time.Equal(at) {
		t.Errorf("repetition: %+v", again)
	}
	if other := e.next(at, ref, "Normal", "Started", "other"); other == nil || other.Name == first.Name {
		t.Errorf("other event: %+v", other)
	}
	if late := e.next(at.Add(time.Hour), ref, "Normal", "Started", "started"); late == nil || late.Count != 1 || late.Name == first.Name {
		t.Errorf("after an hour: %+v", late)
	}
	for i := range 2 * maxRemembered {
		e.next(at.Add(time.Hour), ref, "Normal", "Reason", time.Duration(i).String())
	}
	if len(e.seen) > maxRemembered {
		t.Errorf("%d events remembered, bound %d", len(e.seen), maxRemembered)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
