package sync

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	cloudreport "github.com/skerry-io/skerry/cloudproxy/report"
)

// disk says of itself how much room it has.
type disk struct {
	vfs.FS
	free atomic.Uint64
}

// GetDiskUsage implements vfs.FS.
func (d *disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	const total = 1 << 40
	free := d.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: total, UsedBytes: total - free}, nil
}

// An edge whose disk is full takes what the cloud wants when there is room again,
// on the stream that is there: each new one would bring all of it once more.
func TestFullDiskWaitsForRoom(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		e.halt()
		e.disk = &disk{}
		e.disk.free.Store(1 << 30)
		e.start(ctx, l)
		a.createPod(ctx, testPod("early"))
		wait(time.Minute)
		if _, ok := e.has()["pods/default/early"]; !ok {
			t.Fatal("the edge has nothing")
		}
		e.disk.free.Store(1 << 20)
		wait(time.Minute)
		l.counts()
		a.createPod(ctx, testPod("late"))
		wait(time.Hour)
		if _, ok := e.has()["pods/default/late"]; ok {
			t.Error("stored on a full disk")
		}
		if got := e.client.Stats().Streams; got != 1 {
			t.Errorf("%d streams, want 1", got)
		}
		if got := l.counts()["upsert pods/default/late"]; got > 1 {
			t.Errorf("sent %d times", got)
		}
		e.disk.free.Store(1 << 30)
		wait(time.Minute)
		if _, ok := e.has()["pods/default/late"]; !ok {
			t.Error("not stored though there is room again")
		}
	})
}

// What is said of pods while the disk takes nothing at all is said once: it must come
// when there is room, the last word only, and none that is older than what came since.
func TestFullDiskKeepsWhatWasSaid(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, l *link, e *reporting, _ *cloudreport.Receiver) {
		e.halt()
		d := &disk{FS: vfs.NewMem()}
		d.free.Store(9 << 20) // no room for a reserve
		e.fs = d
		e.start(ctx, l)
		web, gone := testPod("web"), testPod("gone")
		gone.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		a.createPod(ctx, web)
		a.createPod(ctx, gone)
		e.reporter.PodStatus(status(web, corev1.PodPending, "early"))
		wait(time.Minute)
		d.free.Store(1 << 20)
		for _, text := range []string{"refused", "refused again"} {
			e.reporter.PodStatus(status(web, corev1.PodRunning, text))
			wait(time.Hour)
		}
		e.reporter.PodGone("default", "gone", gone.UID)
		if got := a.pod(ctx, "web").Status.Message; got != "early" || e.reporter.Stats().Failed != 3 {
			t.Fatalf("status %q, %d reports refused", got, e.reporter.Stats().Failed)
		}
		d.free.Store(1 << 30)
		wait(time.Minute)
		if got := a.pod(ctx, "web").Status.Message; got != "refused again" {
			t.Errorf("status %q, want the last word", got)
		}
		if _, err := a.CoreV1().Pods("default").Get(ctx, "gone", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("a pod of which the edge said that nothing is left: %v", err)
		}
		e.reporter.PodStatus(status(web, corev1.PodRunning, "later"))
		wait(time.Minute)
		if got := a.pod(ctx, "web").Status.Message; got != "later" {
			t.Errorf("status %q, want the newest", got)
		}
		e.wantEmpty()
	})
}

// What is said of static pods while the disk takes nothing is said once, too: the
// mirror of one whose file has gone must go when there is room.
func TestFullDiskKeepsMirrorsTrue(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, l *link, e *reporting, _ *cloudreport.Receiver) {
		e.halt()
		d := &disk{FS: vfs.NewMem()}
		d.free.Store(9 << 20) // no room for a reserve
		e.fs = d
		e.start(ctx, l)
		say := func(uid types.UID) {
			if uid == "" {
				e.reporter.StaticPods(nil)
				return
			}
			e.reporter.StaticPods(map[string]string{mirrorKey: string(uid)})
			e.reporter.StaticPod(staticPod(uid))
		}
		before := types.UID("")
		for _, uid := range []types.UID{"hash-1", "hash-2", ""} {
			d.free.Store(1 << 20)
			wait(time.Minute)
			say(uid)
			wait(time.Hour)
			a.wantMirror(ctx, "full disk", before)
			d.free.Store(9 << 20)
			wait(time.Minute)
			a.wantMirror(ctx, "room again", uid)
			before = uid
		}
		e.wantEmpty()
	})
}
