package desired

import "testing"

// TestHasWhatIsStored looks at each moment of a change's way: only a version that was
// sent and acknowledged is one that the edge has.
func TestHasWhatIsStored(t *testing.T) {
	const key = "pods/default/web"
	q := newQueue()
	q.setVersion(key, "v1") // the edge said so at the beginning
	q.synced = true
	see := func(when, version string, want bool) {
		t.Helper()
		if got := q.has(key, version); got != want {
			t.Errorf("%s: the edge has %s: %v, want %v", when, version, got, want)
		}
	}
	see("before", "v1", true)
	see("in the cache, and not marked yet", "v2", false)
	q.mark(key)
	see("marked", "v2", false)
	if k, ok := q.next(); !ok || k != key {
		t.Fatalf("next is %q, %v", k, ok)
	}
	see("looked at", "v2", false)
	seq := q.launch(key, "v2", 100)
	see("sent", "v2", false)
	if err := q.land(seq); err != nil {
		t.Fatal(err)
	}
	see("acknowledged", "v2", true)
	see("acknowledged", "v1", false)
	seq, ok := q.launchDelete(key)
	if !ok {
		t.Fatal("nothing to delete")
	}
	see("being deleted", "v2", false)
	if err := q.land(seq); err != nil {
		t.Fatal(err)
	}
	see("deleted", "v2", false)
	if _, ok := q.launchDelete(key); ok {
		t.Error("deleted twice")
	}
}
