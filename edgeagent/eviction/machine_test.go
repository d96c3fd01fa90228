package eviction

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestPressuresByDefault: a kubelet's thresholds on machines of several kinds.
func TestPressuresByDefault(t *testing.T) {
	thresholds, err := Parse(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	memory := func(text string) fstest.MapFS { return fstest.MapFS{"proc/meminfo": {Data: []byte(text)}} }
	disks := func(data, images Disk) func(string) (Disk, error) {
		return func(path string) (Disk, error) {
			if path == "/images" {
				return images, nil
			}
			return data, nil
		}
	}
	threads := fstest.MapFS{"proc/loadavg": {Data: []byte("0 0 0 1/950 9")}, "proc/sys/kernel/pid_max": {Data: []byte("32768")}, "proc/sys/kernel/threads-max": {Data: []byte("1000")}}
	well := Disk{Total: 1000, Available: 500, Inodes: 1000, InodesFree: 500, Device: 1}
	for _, tt := range []struct {
		name string
		root fstest.MapFS
		disk func(string) (Disk, error)
		more []Threshold
		want []corev1.NodeConditionType
	}{
		{name: "well"},
		{name: "low memory", root: memory("MemTotal: 131072 kB\nMemAvailable: 13000 kB\n"), want: []corev1.NodeConditionType{corev1.NodeMemoryPressure}},
		{name: "a gateway's common memory", root: memory("MemTotal: 131072 kB\nMemAvailable: 14000 kB\n")},
		{name: "low memory of a server", root: memory("MemTotal: 8388608 kB\nMemAvailable: 102399 kB\n"), want: []corev1.NodeConditionType{corev1.NodeMemoryPressure}},
		{name: "full disk", disk: disks(Disk{Total: 1000, Available: 99, Device: 1}, Disk{Device: 1}), want: []corev1.NodeConditionType{corev1.NodeDiskPressure}},
		{name: "no inodes", disk: disks(Disk{Total: 1000, Available: 500, Inodes: 1000, InodesFree: 49}, well), want: []corev1.NodeConditionType{corev1.NodeDiskPressure}},
		{name: "inodes not counted", disk: disks(Disk{Total: 1000, Available: 500}, well)},
		{name: "full disk of images", disk: disks(well, Disk{Total: 1000, Available: 149, Device: 2}), want: []corev1.NodeConditionType{corev1.NodeDiskPressure}},
		{name: "disk of images with room", disk: disks(well, Disk{Total: 1000, Available: 150, Device: 2})},
		{name: "images beside everything else", disk: disks(Disk{Total: 1000, Available: 120, Device: 1}, Disk{Total: 1000, Available: 120, Device: 1})},
		{name: "disk not measured", disk: func(string) (Disk, error) { return Disk{}, errors.New("no") }},
		{name: "threads, of which nobody asked to be told", root: threads},
		{name: "threads", root: threads, more: []Threshold{{Signal: PIDAvailable, Value: Value{Share: 0.1}}}, want: []corev1.NodeConditionType{corev1.NodePIDPressure}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.disk == nil {
				tt.disk = disks(well, well)
			}
			m := machine{root: tt.root, disk: tt.disk, dataDir: "/data", imageDir: func(context.Context) (string, error) { return "/images", nil }, log: slog.New(slog.DiscardHandler)}
			s, now := newState(append(tt.more, thresholds...), time.Minute), time.Unix(1000, 0)
			s.step(now, m.sample(t.Context()))
			if diff := cmp.Diff(tt.want, s.conditions(now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
