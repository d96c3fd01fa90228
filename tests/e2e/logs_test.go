package e2e_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestLogsFlags(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	runPod(t, newPod(ns, "three", edge1,
		shell("a", "for i in 1 2 3 4 5; do echo a$i; done; "+idle),
		shell("b", "echo b1; "+idle),
		shell("c", "echo an error >&2; "+idle)))
	logs := func(args ...string) string {
		t.Helper()
		return kubectl(t, append([]string{"-n", ns, "logs", "three"}, args...)...)
	}
	// kubectl asks for all containers in no certain order.
	inOrder := func(log string) string { return strings.Join(sorted(strings.SplitAfter(log, "\n")), "") }
	all := "a1\na2\na3\na4\na5\n"
	whole := inOrder(all + "b1\nan error\n")
	eventually(t, "the whole log", func() error {
		if got := inOrder(logs("--all-containers")); got != whole {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	tests := []struct {
		name, want string
		args       []string
	}{
		{"tail", "a4\na5\n", []string{"-c", "a", "--tail=2"}},
		{"tail of none", "", []string{"-c", "a", "--tail=0"}},
		{"tail of more than all", all, []string{"-c", "a", "--tail=100"}},
		{"limit in bytes", "a1\na2\na", []string{"-c", "a", "--limit-bytes=7"}},
		{"since long ago", all, []string{"-c", "a", "--since=1h"}},
		{"since the time of long ago", all, []string{"-c", "a", "--since-time=2020-01-01T00:00:00Z"}},
		{"the second container", "b1\n", []string{"-c", "b"}},
		{"standard error", "an error\n", []string{"-c", "c"}},
		{"the first container is the default", all, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, logs(tt.args...)); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("timestamps", func(t *testing.T) {
		lines := strings.Split(strings.TrimSpace(logs("-c", "a", "--timestamps")), "\n")
		if len(lines) != 5 {
			t.Fatalf("lines %q", lines)
		}
		for i, line := range lines {
			stamp, text, _ := strings.Cut(line, " ")
			if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != strings.Fields(all)[i] {
				t.Errorf("line %q: %v", line, err)
			}
		}
	})
	t.Run("no newline at the end", func(t *testing.T) {
		pod := newPod(ns, "unfinished", edge1, shell("main", "printf 'no newline'"))
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		create(t, pod)
		eventually(t, "the log", func() error {
			if r := try(t, "-n", ns, "logs", "unfinished"); r.out != "no newline" {
				return fmt.Errorf("got %q, %w", r.out, r.err)
			}
			return nil
		})
	})
	t.Run("no such container", func(t *testing.T) {
		if r := try(t, "-n", ns, "logs", "three", "-c", "d"); r.code != 1 || !strings.Contains(r.stderr, "container d is not valid") {
			t.Errorf("exit code %d, %q", r.code, r.stderr)
		}
	})
	t.Run("none of a previous container", func(t *testing.T) {
		if r := try(t, "-n", ns, "logs", "three", "-c", "a", "--previous"); r.code != 1 || !strings.Contains(r.stderr, "previous terminated container") {
			t.Errorf("exit code %d, %q", r.code, r.stderr)
		}
	})
}

func TestLogsSince(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	runPod(t, newPod(ns, "since", edge1, shell("main", "echo early; "+idle)))
	stamp := func(text string) (at time.Time) {
		t.Helper()
		eventually(t, "the line "+text, func() error {
			for line := range strings.Lines(kubectl(t, "-n", ns, "logs", "since", "--timestamps")) {
				if s, rest, _ := strings.Cut(line, " "); rest == text+"\n" {
					var err error
					at, err = time.Parse(time.RFC3339Nano, s)
					return err
				}
			}
			return fmt.Errorf("no such line")
		})
		return at
	}
	early := stamp("early")
	// The flags count in seconds: the gap leaves room for a slow machine.
	const gap = 20 * time.Second
	eventually(t, "the gap", func() error {
		if d := time.Since(early); d < gap {
			return fmt.Errorf("%v have passed", d)
		}
		return nil
	})
	kubectl(t, "-n", ns, "exec", "since", "--", "sh", "-c", "echo late >/proc/1/fd/1")
	late := stamp("late")
	if got := kubectl(t, "-n", ns, "logs", "since", "--since-time="+late.UTC().Truncate(time.Second).Format(time.RFC3339)); got != "late\n" {
		t.Errorf("--since-time: %q", got)
	}
	since := (time.Since(late) + gap/2).Round(time.Second)
	if got := kubectl(t, "-n", ns, "logs", "since", "--since="+since.String()); got != "late\n" {
		t.Errorf("--since=%v: %q", since, got)
	}
}

func TestLogsPrevious(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	c := shell("main", "if [ -e /data/x ]; then echo second; sleep 100000; fi; touch /data/x; echo first; exit 3")
	c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	pod := newPod(ns, "previous", edge1, c)
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	create(t, pod)
	waitPod(t, ns, "previous", func(p *corev1.Pod) error {
		if err := running(p); err != nil {
			return err
		}
		if n := p.Status.ContainerStatuses[0].RestartCount; n != 1 {
			return fmt.Errorf("%d restarts", n)
		}
		return nil
	})
	eventually(t, "the log of now", func() error {
		if got := kubectl(t, "-n", ns, "logs", "previous"); got != "second\n" {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	if got := kubectl(t, "-n", ns, "logs", "previous", "--previous"); got != "first\n" {
		t.Errorf("the log of before is %q", got)
	}
}

func TestLogsFollow(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	pod := newPod(ns, "follow", edge1, shell("main", "echo one; while [ ! -e /tmp/stop ]; do sleep 0.1; done; echo end"))
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	runPod(t, pod)
	cmd := theLab.Command(t.Context(), "-n", ns, "logs", "-f", "follow")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := make(chan string)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	next := func(want string) {
		t.Helper()
		select {
		case got, ok := <-lines:
			if !ok || got != want {
				t.Fatalf("got %q, %t, want %q", got, ok, want)
			}
		case <-time.After(patience):
			t.Fatalf("%q does not come", want)
		}
	}
	next("one")
	for _, word := range []string{"two", "three"} {
		kubectl(t, "-n", ns, "exec", "follow", "--", "sh", "-c", "echo "+word+" >/proc/1/fd/1")
		next(word)
	}
	kubectl(t, "-n", ns, "exec", "follow", "--", "touch", "/tmp/stop")
	next("end")
	select {
	case extra, ok := <-lines:
		if ok {
			t.Errorf("more came: %q", extra)
		}
	case <-time.After(patience):
		t.Fatal("following does not end with the container")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestLogsOverBadLink reads a log over the worst links. A log may be cut off when
// a link is so bad that it is given up, as kubectl does not tell; but what came
// is the log's beginning, and another try brings all of it.
func TestLogsOverBadLink(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	runPod(t, newPod(ns, "long", e, shell("main", "seq 1 20000; "+idle)))
	var want strings.Builder
	for i := range 20000 {
		fmt.Fprintln(&want, i+1)
	}
	for _, profile := range []string{"D", "E"} {
		must(t, e.SetLink(t.Context(), "profile", profile))
		var got string
		eventually(t, "logs over "+profile, func() error {
			r := try(t, "-n", ns, "logs", "long")
			got = r.out
			if !strings.HasPrefix(want.String(), got) {
				t.Fatalf("over link %s the log is changed: %d bytes that are not its beginning", profile, len(got))
			}
			if r.err == nil && len(got) < want.Len() {
				return fmt.Errorf("%d of %d bytes", len(got), want.Len())
			}
			return r.err
		})
	}
	must(t, e.SetLink(t.Context(), "profile", "A"))
}
