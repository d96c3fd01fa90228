package userns

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// dirs are pods' directories on a disk.
type dirs string

func (d dirs) PodDir(uid types.UID) string { return filepath.Join(string(d), string(uid)) }

func (d dirs) Pods() ([]types.UID, error) {
	entries, err := os.ReadDir(string(d))
	var out []types.UID
	for _, e := range entries {
		out = append(out, types.UID(e.Name()))
	}
	return out, err
}

func spanOf(first, count uint32) func(context.Context) (Span, error) {
	return func(context.Context) (Span, error) { return Span{first, count}, nil }
}

func (d dirs) write(t *testing.T, uid types.UID, name, text string) {
	t.Helper()
	if err := os.MkdirAll(d.PodDir(uid), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.PodDir(uid), name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// gets checks what each pod is given, in this order.
func gets(t *testing.T, r *Ranges, want ...any) {
	t.Helper()
	for i := 0; i < len(want); i += 2 {
		uid, first := types.UID(want[i].(string)), uint32(want[i+1].(int)*Size)
		if got, err := r.First(t.Context(), uid); got != first || err != nil {
			t.Errorf("%s: %d, %v; want %d", uid, got, err, first)
		}
	}
}

func TestFirst(t *testing.T) {
	d := dirs(t.TempDir())
	r := New(d, spanOf(2*Size, 3*Size))
	gets(t, r, "a", 2, "b", 3, "a", 2, "c", 4)
	if _, err := r.First(t.Context(), "d"); !errors.Is(err, ErrNoneFree) || !strings.Contains(err.Error(), "all 3") {
		t.Errorf("a fourth of three: %v", err)
	}
	if _, err := os.Stat(d.PodDir("d")); err == nil {
		t.Error("a pod without a range has a directory")
	}
	// What a pod of former times had is free: released, or gone with its directory.
	for range 2 {
		if err := r.Release("b"); err != nil {
			t.Fatal(err)
		}
	}
	gets(t, r, "d", 3)
	if err := os.RemoveAll(d.PodDir("a")); err != nil {
		t.Fatal(err)
	}
	gets(t, r, "e", 2)

	raw, err := os.ReadFile(filepath.Join(d.PodDir("c"), "userns"))
	const kubelets = `{"uidMappings":[{"hostId":262144,"containerId":0,"length":65536}],"gidMappings":[{"hostId":262144,"containerId":0,"length":65536}]}`
	if string(raw) != kubelets || err != nil {
		t.Errorf("file %s, %v", raw, err)
	}
}

// The next agent gives everyone what the last one has, wherever that was killed, and
// whatever the machine's administrator has changed meanwhile.
func TestRestart(t *testing.T) {
	d := dirs(t.TempDir())
	gets(t, New(d, spanOf(2*Size, 9*Size)), "a", 2, "b", 3)
	d.write(t, "killed", fileTmp, `{"uidMa`)
	d.write(t, "other", "allocation", "{}")
	gets(t, New(d, spanOf(2*Size, 9*Size)), "killed", 4, "b", 3, "a", 2)
	// Ranges that are not for pods any more stay with those that run with them.
	gets(t, New(d, spanOf(3*Size, 9*Size)), "a", 2, "c", 5)
	gets(t, New(d, spanOf(40*Size, Size)), "a", 2, "e", 40)
	// To know what a pod has takes nobody's answer.
	r := New(d, func(context.Context) (Span, error) { return Span{}, errors.New("no network") })
	gets(t, r, "a", 2)
	if _, err := r.First(t.Context(), "f"); err == nil || err.Error() != "no network" {
		t.Errorf("a new pod: %v", err)
	}
}

// A file that power loss has cut short is none: the pod gets a range anew, and others
// are not kept from theirs.
func TestDamaged(t *testing.T) {
	const other = `{"uidMappings":[{"hostId":131072,"containerId":0,"length":65536}],"gidMappings":[{"hostId":196608,"containerId":0,"length":65536}]}`
	for _, text := range []string{"", "{", `{"uidMappings":[],"gidMappings":[]}`, other, strings.ReplaceAll(other, "196608", "131073"), strings.NewReplacer("196608", "0", "131072", "0").Replace(other)} {
		d := dirs(t.TempDir())
		d.write(t, "a", file, text)
		gets(t, New(d, spanOf(2*Size, 9*Size)), "b", 2, "a", 3, "b", 2)
	}
}

// What can't be read may say anything, so nobody gets a range that may be another's.
func TestUnreadable(t *testing.T) {
	d := dirs(t.TempDir())
	if err := os.MkdirAll(filepath.Join(d.PodDir("a"), file), 0o750); err != nil { // read: is a directory
		t.Fatal(err)
	}
	if got, err := New(d, spanOf(2*Size, 9*Size)).First(t.Context(), "b"); err == nil {
		t.Errorf("gave %d", got)
	}
}

// Pods that come at once have one range each.
func TestAtOnce(t *testing.T) {
	d := dirs(t.TempDir())
	r := New(d, spanOf(Size, 100*Size))
	var wg sync.WaitGroup
	var mu sync.Mutex
	had := map[uint32]bool{}
	for i := range 30 {
		wg.Go(func() {
			first, err := r.First(t.Context(), types.UID(rune('A'+i)))
			mu.Lock()
			defer mu.Unlock()
			if had[first] || err != nil {
				t.Errorf("%d twice, %v", first, err)
			}
			had[first] = true
		})
	}
	wg.Wait()
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"uidMappings":[{"hostId":131072,"containerId":0,"length":65536}],"gidMappings":[{"hostId":131072,"containerId":0,"length":65536}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if first, ok := decode(raw); ok && (first == 0 || first%Size != 0) {
			t.Errorf("%s: %d", raw, first)
		}
	})
}
