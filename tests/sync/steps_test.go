package sync

import (
	"bufio"
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	clouddesired "github.com/skerry-io/skerry/cloudproxy/desired"
	edgedesired "github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// podsResource names pods to the fake API server's tracker.
func podsResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "pods"}
}

// TestSteps follows a pod and its ConfigMap from the API to running, over a cut.
func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAPI(t)
		p, wg := publisher(ctx, t, a)
		l := newLink(ctx, p.Serve)
		st, err := store.Open(store.Config{Dir: "db", FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		steps, err := edgedesired.NewSteps(st)
		if err != nil {
			t.Fatal(err)
		}
		client, err := edgedesired.New(edgedesired.Config{Store: st, Dialer: l, Steps: steps, Log: logger()})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = client.Run(ctx) })
		objects := edgedesired.Objects{Store: st}
		see := func(what string, stored, applied, running clouddesired.Behind) {
			t.Helper()
			synctest.Wait()
			e, ok := p.Edge(node)
			if !ok {
				t.Fatalf("%s: no stream", what)
			}
			want := []clouddesired.Behind{stored, applied, running}
			got := []clouddesired.Behind{e.Unstored, e.Unapplied, e.Unrunning}
			for i := range got {
				got[i].Lag = got[i].Lag.Truncate(time.Second)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: unstored, unapplied, unrunning (-want +got):\n%s", what, diff)
			}
		}
		none := clouddesired.Behind{}
		behind := func(n int, d time.Duration) clouddesired.Behind { return clouddesired.Behind{Objects: n, Lag: d} }

		wait(time.Second)
		see("nothing", none, none, none)
		a.putConfigMap(ctx, "cm", "1")
		a.createPod(ctx, testPod("web", "cm"))
		wait(3 * time.Second)
		see("stored", none, behind(3, 3*time.Second), behind(3, 3*time.Second))
		pod, err := objects.Pod("pods/default/web")
		if err != nil {
			t.Fatal(err)
		}
		steps.Object("configmaps/default/cm")
		steps.Object(wire.TokenKey("default", "web", wire.TokenID(string(pod.UID), "", 3607)))
		steps.Pod(pod, wire.StepApplied)
		see("applied", none, none, behind(1, 3*time.Second))

		// What is not there yet is told again to whoever takes the next stream.
		l.cut()
		wait(time.Second)
		l.mend()
		wait(time.Second)
		see("another stream", none, none, behind(1, 5*time.Second))
		old := *pod
		old.ResourceVersion = "0"
		steps.Pod(&old, wire.StepRunning)
		see("another version", none, none, behind(1, 5*time.Second))
		steps.Pod(pod, wire.StepRunning)
		see("running", none, none, none)
		steps.Pod(pod, wire.StepApplied)
		see("steps only grow", none, none, none)

		// Nobody sees to the change of the ConfigMap; then its pod goes, and it with it.
		a.putConfigMap(ctx, "cm", "2")
		wait(2 * time.Second)
		see("changed", none, behind(1, 2*time.Second), behind(1, 2*time.Second))
		if err := a.tracker.Delete(podsResource(), "default", "web"); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		see("gone", none, none, none)

		cancel()
		l.cut()
		wg.Wait()
		l.wg.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSlowEdgeIsSeen has an edge that acknowledges nothing.
func TestSlowEdgeIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAPI(t)
		a.putConfigMap(ctx, "cm", "1")
		a.createPod(ctx, testPod("web", "cm"))
		p, wg := publisher(ctx, t, a)
		edge, cloud := net.Pipe()
		wg.Go(func() { _ = p.Serve(ctx, node, cloud) })
		if err := wire.Write(edge, &wire.Digest{}); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for r := wire.NewReader(bufio.NewReader(edge), 4<<20); ; {
				if _, err := r.Next(); err != nil {
					return
				}
			}
		})
		wait(20 * time.Second)
		e, _ := p.Edge(node)
		if want := (clouddesired.Behind{Objects: 3, Lag: 20 * time.Second}); e.Unstored.Objects != 3 || e.Unstored.Lag.Round(time.Second) != want.Lag {
			t.Errorf("unstored %+v, want %+v", e.Unstored, want)
		}
		// It claims to hold, and to lag with, far more than there is.
		for i := range 70 {
			f := &wire.Progress{}
			for j := range 1000 {
				f.Entries = append(f.Entries, wire.Advance{Key: string(rune('a'+i)) + string(rune(j+1000)), Step: wire.StepStored, Seconds: 1 << 61})
			}
			if err := wire.Write(edge, f); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if e, _ = p.Edge(node); e.Unrunning.Objects > 64<<10 || e.Unrunning.Lag > 366*24*time.Hour {
			t.Errorf("an edge's word made %+v", e.Unrunning)
		}
		cancel()
		wg.Wait()
	})
}
