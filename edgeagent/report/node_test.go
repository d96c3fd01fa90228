package report

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
			"proc/meminfo":                                             {Data: []byte("MemTotal:         131072 kB\nMemFree: 1 kB\nMemAvailable:     110000 kB\nHugePages_Total:       0\nSwapTotal: 1024 kB\n")},
			"proc/loadavg":                                             {Data: []byte("0.00 0.01 0.05 1/123 4567\n")},
			"proc/sys/kernel/pid_max":                                  {Data: []byte("32768\n")},
			"proc/sys/kernel/osrelease":                                {Data: []byte("6.1.0\n")},
			"proc/sys/kernel/random/boot_id":                           {Data: []byte("boot\n")},
			"sys/devices/system/cpu/online":                            {Data: []byte("0-3,6\n")},
			"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages":    {Data: []byte("4\n")},
			"sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": {Data: []byte("0\n")},
			"proc/device-tree/system-id":                               {Data: []byte("tree\x00")},
			"etc/machine-id":                                           {Data: []byte("machine\n")},
			"etc/os-release":                                           {Data: []byte("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n")},
		},
		Reserved: func(name corev1.ResourceName, capacity int64) int64 {
			switch name {
			case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
				return capacity / 10
			case corev1.ResourceCPU:
				return 500
			default:
				return 0
			}
		},
		Disk: func(string) (uint64, uint64, error) { return 1000 << 20, 500 << 20, nil },
	}
	change(&cfg)
	cfg, err := cfg.fill()
	if err != nil {
		t.Fatal(err)
	}
	return &nodeReporter{cfg: cfg, again: make(chan struct{}, 1), log: discard()}
}

func TestNodeStatus(t *testing.T) {
	now := time.Unix(1000, 0)
	s := testNode(t, func(*NodeConfig) {}).status(t.Context(), now, nil)
	if got, want := s.NodeInfo.KubeletVersion, "v1.37.2-skerry.0.1.0"; got != want {
		t.Errorf("version %q, want %q", got, want)
	}
	if s.NodeInfo.SystemUUID != "tree" || s.NodeInfo.Swap == nil || *s.NodeInfo.Swap.Capacity != 1<<20 {
		t.Errorf("node info: %+v", s.NodeInfo)
	}
	if s.NodeInfo.OSImage != "Debian GNU/Linux 12" || s.NodeInfo.KernelVersion != "6.1.0" || s.NodeInfo.MachineID != "machine" || s.NodeInfo.BootID != "boot" {
		t.Errorf("node info: %+v", s.NodeInfo)
	}
	for name, want := range map[corev1.ResourceName]string{"memory": "128Mi", "pods": "110", "ephemeral-storage": "1000Mi", "cpu": "5", "hugepages-2Mi": "8Mi", "hugepages-1Gi": "0"} {
		if q := s.Capacity[name]; q.String() != want {
			t.Errorf("capacity of %s = %s, want %s", name, q.String(), want)
		}
	}
	for name, want := range map[corev1.ResourceName]string{"memory": "112407348", "ephemeral-storage": "900Mi", "cpu": "4500m", "hugepages-2Mi": "8Mi"} {
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
		{"pressure", func(c *NodeConfig) {
			c.Pressures = func() []corev1.NodeConditionType {
				return []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodePIDPressure}
			}
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{corev1.NodeMemoryPressure: "True", corev1.NodePIDPressure: "True"}},
		{"store full", func(c *NodeConfig) {
			c.Full = func() (bool, time.Time) { return true, time.Unix(0, 0) }
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{ConditionStoreFull: "True"}},
		{"store with room", func(c *NodeConfig) {
			c.Full = func() (bool, time.Time) { return false, time.Time{} }
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{ConditionStoreFull: "False"}},
		{"disk not measured", func(c *NodeConfig) {
			c.Disk = func(string) (uint64, uint64, error) { return 0, 0, errors.New("no") }
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{}},
		{"no runtime", func(c *NodeConfig) {
			c.Runtime = func(context.Context) (string, error) { return "", errors.New("refused") }
		}, map[corev1.NodeConditionType]corev1.ConditionStatus{corev1.NodeReady: "False"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := testNode(t, tt.change)
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
		var full atomic.Bool
		var puts []*corev1.NodeStatus
		n := testNode(t, func(c *NodeConfig) {
			c.Pressures = func() []corev1.NodeConditionType {
				if full.Load() {
					return []corev1.NodeConditionType{corev1.NodeDiskPressure}
				}
				return nil
			}
		})
		n.put = func(s *corev1.NodeStatus) error { puts = append(puts, s); return nil }
		ctx, cancel := context.WithCancel(t.Context())
		go n.run(ctx)
		<-time.After(time.Hour)
		synctest.Wait()
		if len(puts) != 1 {
			t.Fatalf("%d reports of a node that did not change", len(puts))
		}
		full.Store(true)
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

func TestNodeImages(t *testing.T) {
	var asked int
	fail := false
	n := testNode(t, func(c *NodeConfig) {
		c.Images = func(context.Context) ([]corev1.ContainerImage, error) {
			asked++
			if fail {
				return nil, errors.New("no")
			}
			var list []corev1.ContainerImage
			for i := range 70 {
				list = append(list, corev1.ContainerImage{
					Names: []string{fmt.Sprintf("z%d", i), "a", "b", "c", "d", "e"}, SizeBytes: int64(i % 60),
				})
			}
			if asked%2 == 0 {
				slices.Reverse(list) // a runtime gives them in any order
			}
			return list, nil
		}
	})
	at := time.Unix(1000, 0)
	first := n.status(t.Context(), at, nil)
	if got := first.Images; len(got) != maxImages || got[0].SizeBytes != 59 || len(got[0].Names) != maxImageNames {
		t.Errorf("%d images, the first %+v", len(got), got[0])
	}
	n.status(t.Context(), at.Add(imagesInterval-1), nil)
	if asked != 1 {
		t.Errorf("the runtime was asked %d times in a minute", asked)
	}
	if second := n.status(t.Context(), at.Add(imagesInterval), first.Conditions); asked != 2 || !sameStatus(first, second, withoutHeartbeats) {
		t.Error("the same images in another order are another status")
	}
	fail = true
	if third := n.status(t.Context(), at.Add(2*imagesInterval), nil); asked != 3 || len(third.Images) != maxImages {
		t.Errorf("%d images while the runtime is away", len(third.Images))
	}
}

// TestNoiseIsNotReported: an error whose text moves, a file system whose size does,
// and a runtime that is away for a moment.
func TestNoiseIsNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		round := 0
		var puts []*corev1.NodeStatus
		n := testNode(t, func(c *NodeConfig) {
			c.Disk = func(string) (uint64, uint64, error) {
				if round++; round%7 == 0 {
					return 0, 0, errors.New("busy")
				}
				return uint64(1000000 + round%100), 500000, nil
			}
			c.Runtime = func(context.Context) (string, error) { return "", fmt.Errorf("no answer for %d s", 10*round) }
		})
		n.put = func(s *corev1.NodeStatus) error { puts = append(puts, s); return nil }
		ctx, cancel := context.WithCancel(t.Context())
		go n.run(ctx)
		<-time.After(time.Hour)
		cancel()
		synctest.Wait()
		if len(puts) < 2 || len(puts) > 13 {
			t.Errorf("%d reports in an hour, want one in five minutes", len(puts))
		}
		for _, s := range puts {
			if got := s.Capacity.StorageEphemeral().Value(); got != 1000001 {
				t.Errorf("capacity %d", got)
			}
		}
	})
}
