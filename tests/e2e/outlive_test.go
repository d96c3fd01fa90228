package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// talkerScript prints numbered lines until /ctl/stop is there, and tells at its
// end how many there were, so that what comes out is known to the last byte.
const talkerScript = `i=0
while [ ! -e /ctl/stop ]; do i=$((i+1)); echo "line $i"; sleep 0.05; done
echo "end $i"
exit 7`

// floodLines is what the flood prints, at full speed: some seconds over link B.
const floodLines = 300000

// TestOutlive breaks the link in the middle of kubectl exec and kubectl logs.
// Nobody at either end may notice more than that nothing comes for a while: not
// a byte is lost or doubled, and the exit code is the command's.
func TestOutlive(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	for _, tt := range []struct {
		name  string
		fault fault
	}{
		{"nat", rebindNAT},
		{"address", readdress},
		{"outage-3s", outage(3 * time.Second)},
		{"udp-blocked", blockUDP},
		{"link-killed", killLink},
		{"outage-60s", outage(time.Minute)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			must(t, e.SetLink(t.Context(), "profile", "B"))
			defer restoreLink(t, e)
			all := startTalks(t, ns, tt.name, e)
			all.waitForOutput(t, "the middle of all output")
			before := time.Now()
			tt.fault(t, e, all)
			after := time.Now()
			all.waitForOutput(t, "output after the fault")
			pass(t, time.Second) // what went wrong may show late
			all.finish(t, before, after)
		})
	}
}

// restoreLink leaves a good link to the next fault, whatever became of this one.
func restoreLink(t *testing.T, e *lab.Edge) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
	defer cancel()
	if err := errors.Join(
		e.StartLink(ctx, "A"), e.SetLink(ctx, "profile", "A"), e.SetLink(ctx, "set", "outage=0", "udpblock=0"),
	); err != nil {
		t.Error(err)
	}
}

// fault does something to an edge's link while talks go on, and undoes it.
type fault func(t *testing.T, e *lab.Edge, all *talks)

func rebindNAT(t *testing.T, e *lab.Edge, _ *talks) {
	t.Helper()
	must(t, e.SetLink(t.Context(), "nat", "1000"))
}

func readdress(t *testing.T, e *lab.Edge, _ *talks) {
	t.Helper()
	must(t, e.Readdress(t.Context(), 77))
}

func outage(d time.Duration) fault {
	return func(t *testing.T, e *lab.Edge, _ *talks) {
		t.Helper()
		must(t, e.SetLink(t.Context(), "set", "outage=1"))
		pass(t, d)
		must(t, e.SetLink(t.Context(), "set", "outage=0"))
	}
}

func killLink(t *testing.T, e *lab.Edge, _ *talks) {
	t.Helper()
	must(t, e.KillLink(t.Context()))
	pass(t, 3*time.Second)
	must(t, e.StartLink(t.Context(), "B"))
}

// blockUDP takes UDP away: the session must go on over TCP, and go back to QUIC
// when it can.
func blockUDP(t *testing.T, e *lab.Edge, all *talks) {
	t.Helper()
	must(t, e.SetLink(t.Context(), "set", "udpblock=1"))
	begin := time.Now()
	eventually(t, "a TCP connection with the cloud", func() error {
		return errors.Join(all.alive(), tcpCarriers(t, e, func(n int) bool { return n > 0 }))
	})
	all.waitForOutput(t, "output over TCP")
	t.Logf("over TCP after %v", time.Since(begin).Round(time.Millisecond))
	must(t, e.SetLink(t.Context(), "set", "udpblock=0"))
	begin = time.Now()
	eventually(t, "the end of the TCP connection", func() error {
		return errors.Join(all.alive(), tcpCarriers(t, e, func(n int) bool { return n == 0 }))
	})
	all.waitForOutput(t, "output over QUIC")
	t.Logf("back to QUIC after %v", time.Since(begin).Round(time.Millisecond))
}

// tcpCarriers counts the edge's TCP connections with the cloud's tunnel port, as
// its kernel sees them.
func tcpCarriers(t *testing.T, e *lab.Edge, ok func(int) bool) error {
	t.Helper()
	server, err := netip.ParseAddrPort(theLab.Server())
	must(t, err)
	out, err := e.Run(t.Context(), "ss", "-Htn", "state", "established", "dst", server.Addr().String(), "dport", "=", fmt.Sprint(server.Port()))
	must(t, err)
	if n := strings.Count(out, "\n"); !ok(n) {
		return fmt.Errorf("%d TCP connections: %q", n, out)
	}
	return nil
}

// pass lets real time go by.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// talks are the kubectls that a fault interrupts.
type talks struct {
	ns, pod string
	all     []*talk
}

// startTalks starts a pod and one kubectl of each sort that talks with it.
func startTalks(t *testing.T, ns, pod string, e *lab.Edge) *talks {
	t.Helper()
	ctl := []corev1.VolumeMount{{Name: "ctl", MountPath: "/ctl"}}
	talker, other := shell("talker", talkerScript), shell("shell", idle)
	talker.VolumeMounts, other.VolumeMounts = ctl, ctl
	p := newPod(ns, pod, e, talker, other)
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.Volumes = []corev1.Volume{{Name: "ctl", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	runPod(t, p)

	exec := func(script string, flags ...string) []string {
		return slices.Concat([]string{"-n", ns, "exec", pod, "-c", "shell"}, flags, []string{"--", "sh", "-c", script})
	}
	all := &talks{ns: ns, pod: pod}
	add := func(k *talk) {
		all.all = append(all.all, k)
		k.start(t)
	}
	add(&talk{name: "logs -f", args: []string{"-n", ns, "logs", "-f", pod, "-c", "talker"}, check: counted})
	add(&talk{name: "exec -i", args: exec(talkerScript, "-i"), code: 7, check: counted})
	add(&talk{name: "exec -i, typed", args: exec("echo ready; cat; exit 7", "-i"), code: 7, spdy: true, types: true})
	// With no echo of its own the terminal shows what cat says and nothing else.
	add(&talk{name: "exec -it, typed", args: exec("stty -echo; echo ready; cat; exit 7", "-it"), code: 7, terminal: true, types: true})
	all.waitForOutput(t, "the beginning")
	// The last, so that it is not done before the others have begun. It has no stdin:
	// containerd cuts off what it has not sent yet when stdin ends after the command.
	add(&talk{name: "exec, flood", args: exec(fmt.Sprintf("seq 1 %d; exit 7", floodLines)), code: 7, ends: true, check: flood})
	return all
}

// waitForOutput waits until more has come from each talk that is not at its end.
func (a *talks) waitForOutput(t *testing.T, what string) {
	t.Helper()
	seen := make([]int, len(a.all))
	for i, k := range a.all {
		seen[i] = k.out.length()
	}
	eventually(t, what, func() error {
		if err := a.alive(); err != nil {
			return err
		}
		for i, k := range a.all {
			if k.out.length() == seen[i] && !k.ended() {
				return fmt.Errorf("%s is silent at %d bytes", k.name, seen[i])
			}
		}
		return nil
	})
}

// alive fails for a talk that ended before it should; no waiting mends that.
func (a *talks) alive() error {
	for _, k := range a.all {
		if k.ended() && (!k.ends || k.exit != k.code) {
			return lab.Final(fmt.Errorf("%s ended in the middle, with exit code %d after %d bytes: %s", k.name, k.exit, k.out.length(), k.errs.text()))
		}
	}
	return nil
}

// finish brings all talks to their ends and looks at what they said.
func (a *talks) finish(t *testing.T, before, after time.Time) {
	t.Helper()
	kubectl(t, "-n", a.ns, "exec", a.pod, "-c", "shell", "--", "touch", "/ctl/stop")
	for _, k := range a.all {
		k.stopTyping(t)
	}
	for _, k := range a.all {
		k.wait(t)
		text := k.out.text()
		if err := k.check(text); err != nil || k.exit != k.code {
			t.Errorf("%s: %v; exit code %d, want %d; errors %q", k.name, err, k.exit, k.code, k.errs.text())
		}
		t.Logf("%s: %d bytes, nothing for %v at most, and for %v after the fault", k.name, len(text),
			k.out.longestGap(before).Round(time.Millisecond), k.out.firstAfter(after).Round(time.Millisecond))
	}
}

// counted checks what talkerScript says.
func counted(text string) error {
	i := strings.LastIndex(text, "end ")
	if i < 0 {
		return fmt.Errorf("no end in %d bytes", len(text))
	}
	var n int
	if _, err := fmt.Sscanf(text[i:], "end %d\n", &n); err != nil {
		return fmt.Errorf("the end is %q: %w", text[i:], err)
	}
	var want strings.Builder
	for i := range n {
		fmt.Fprintf(&want, "line %d\n", i+1)
	}
	fmt.Fprintf(&want, "end %d\n", n)
	return same(text, want.String())
}

// flood checks what seq says.
func flood(text string) error {
	var want strings.Builder
	for i := range floodLines {
		fmt.Fprintln(&want, i+1)
	}
	return same(text, want.String())
}

// same says where two texts part.
func same(got, want string) error {
	if got == want {
		return nil
	}
	n := min(len(got), len(want))
	at := 0
	for at < n && got[at] == want[at] {
		at++
	}
	around := func(s string) string { return s[max(at-40, 0):min(at+40, len(s))] }
	return fmt.Errorf("%d bytes, want %d; from byte %d on %q, want %q", len(got), len(want), at, around(got), around(want))
}
