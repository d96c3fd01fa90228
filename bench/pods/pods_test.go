package main

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func TestParseFlags(t *testing.T) {
	o, err := parseFlags([]string{"-pods", "30,10,30", "-rounds", "4"}, io.Discard)
	if err != nil || !cmp.Equal(o.pods, []int{10, 30}) || o.rounds != 4 || o.changes != 3 {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err = parseFlags([]string{"-quick"}, io.Discard); err != nil || !cmp.Equal(o.pods, []int{10, 30}) || o.rounds != 3 || o.changes != 1 {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err = parseFlags([]string{"-quick", "-pods", "5", "-rounds", "1"}, io.Discard); err != nil || !cmp.Equal(o.pods, []int{5}) || o.rounds != 1 {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, bad := range [][]string{{"-rounds", "0"}, {"-pods", ""}, {"-pods", "0"}, {"-pods", "106"}, {"-pods", "10,x"}, {"more"}, {"-nosuch"}} {
		if _, err := parseFlags(bad, io.Discard); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestMetric(t *testing.T) {
	if a, b := metric("vmrss_mb", 10), metric("vmrss_mb", 100); a != "vmrss_mb" || b != "vmrss_mb_100" {
		t.Error(a, b)
	}
}

func TestParseMemory(t *testing.T) {
	const status = "Name:\tagent\nVmRSS:\t   45000 kB\nRssAnon:\t   15000 kB\n"
	const rollup = "00400000-7ffd [rollup]\nRss:              45000 kB\nPss:              30000 kB\nPss_Anon:  1 kB\n"
	got, err := parseMemory(status, rollup)
	if want := (memory{vmrss: 46.08, rssanon: 15.36, pss: 30.72}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range [][2]string{{"", rollup}, {status, ""}, {status, "Pss_Anon: 1 kB\n"}, {"VmRSS:\tx kB\nRssAnon:\t1 kB\n", rollup}} {
		if m, err := parseMemory(bad[0], bad[1]); err == nil {
			t.Errorf("got %+v of %q", m, bad)
		}
	}
	m, err := readMemory(os.Getpid())
	if err != nil || m.rssanon <= 0 || m.vmrss < m.rssanon || m.pss <= 0 {
		t.Errorf("got %+v, %v of this process", m, err)
	}
}

func TestParseCPU(t *testing.T) {
	got, err := parseCPU("123 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0")
	if err != nil || got != 4*time.Second {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 x 150"} {
		if d, err := parseCPU(bad); err == nil {
			t.Errorf("%q gives %v", bad, d)
		}
	}
	if _, err := cpuTime(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestWatched(t *testing.T) {
	w := &watched{pods: map[string]*corev1.Pod{}, changed: make(chan struct{})}
	pod := func(phase corev1.PodPhase, is corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "p"},
			Status:     corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: is}}},
		}
	}
	go func() {
		w.take(watch.Event{Type: watch.Added, Object: pod(corev1.PodPending, corev1.ConditionFalse)})
		w.take(watch.Event{Type: watch.Modified, Object: pod(corev1.PodRunning, corev1.ConditionTrue)})
	}()
	if err := w.wait(t.Context(), "running", []string{"p"}, func(p *corev1.Pod) bool { return running(p) && ready(p) }); err != nil {
		t.Error(err)
	}
	go w.take(watch.Event{Type: watch.Deleted, Object: pod(corev1.PodRunning, corev1.ConditionTrue)})
	if err := w.wait(t.Context(), "gone", []string{"p"}, gone); err != nil {
		t.Error(err)
	}
}

func TestFile(t *testing.T) {
	n := &node{podsDir: "/state/pods"}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	if got, want := n.file(pod, "settings", "mark"), "/state/pods/u/volumes/kubernetes.io~configmap/settings/mark"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
