package registry_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// waitChange waits until cond holds, and looks only when Changed says that there
// is something new.
func (f *fixture) waitChange(t *testing.T, what string, cond func() bool) {
	t.Helper()
	bound := time.After(2 * time.Minute)
	for {
		changed := f.Changed()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-bound:
			t.Fatalf("Changed never shows that %s", what)
		}
	}
}

func (f *fixture) connected() bool { return len(f.names()) > 0 }

// An edge that has lost its link is offline at once for all who ask, and its
// session and streams are there when it comes back.
func TestOfflineWhileDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		edge := f.dial(t, "edge-1", 1, 1)
		c, err := f.DialEdge(t.Context(), "edge-1", wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		st, err := edge.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before, _, _ := f.Session("edge-1")

		f.net.Outage(true)
		f.waitChange(t, "the link is lost", func() bool { return !f.connected() })
		info, _, ok := f.Session("edge-1")
		if !ok || info.Stats.Attached || !info.Stats.Since.Equal(before.Stats.Since) {
			t.Fatalf("the session is %v, %+v; want it there without a link", ok, info.Stats)
		}
		_, err = f.DialEdge(t.Context(), "edge-1", wire.KindExec)
		offline, ok := errors.AsType[*registry.OfflineError](err)
		if !ok || !offline.Since.Equal(info.Stats.AttachedSince) {
			t.Errorf("DialEdge: %v, want offline since %v", err, info.Stats.AttachedSince)
		}
		tunneltest.Pass(time.Minute)

		f.net.Outage(false)
		f.waitChange(t, "the edge is back", f.connected)
		if info, _, _ := f.Session("edge-1"); !info.Stats.Since.Equal(before.Stats.Since) || info.Stats.Resumes != 1 {
			t.Errorf("the session began at %v with %d resumes, want %v and 1", info.Stats.Since, info.Stats.Resumes, before.Stats.Since)
		}
		io.WriteString(c, "hello")
		c.Close()
		if got, err := io.ReadAll(st); string(got) != "hello" || err != nil {
			t.Errorf("the edge read %q, %v in the stream from before", got, err)
		}
		st.Close()
		c, err = f.DialEdge(t.Context(), "edge-1", wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

// An edge that never comes back is offline since its link was lost, not since
// its session was given up.
func TestOfflineSinceTheLinkWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		f.dial(t, "edge-1", 1, 1)
		f.net.Outage(true)
		f.waitChange(t, "the link is lost", func() bool { return !f.connected() })
		info, _, _ := f.Session("edge-1")
		lost := info.Stats.AttachedSince
		tunneltest.Pass(grace + time.Minute)
		if _, since, ok := f.Session("edge-1"); ok || !since.Equal(lost) {
			t.Errorf("session %v, lost at %v; want none since %v", ok, since, lost)
		}
		f.net.Outage(false)
	})
}

// A new session takes the place of one that waits for a link.
func TestNewSessionReplacesDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		f.dial(t, "edge-1", 1, 1)
		f.net.Outage(true)
		f.waitChange(t, "the link is lost", func() bool { return !f.connected() })
		f.net.Outage(false)
		f.dial(t, "edge-1", 2, 1)
		f.waitChange(t, "the edge is back", f.connected)
		if info, _, ok := f.Session("edge-1"); !ok || info.Hello.Incarnation[0] != 2 {
			t.Errorf("session %v of start %d, want that of the second", ok, info.Hello.Incarnation[0])
		}
	})
}
