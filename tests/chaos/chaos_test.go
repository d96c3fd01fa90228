package chaos_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tests/lab"
)

const (
	// drainTime is how long the streams that are open after the last fault have to
	// come to their ends.
	drainTime = 2 * time.Minute
	// longestStall is what faults may cost beyond their own time, and over link E
	// twice of it, where TCP itself takes that long to begin. What is usual is in the
	// summary.
	longestStall = 20 * time.Second
	// longMove is what the session may take to leave a carrier that is dead for
	// another one.
	longMove = 10 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv(peerEnv) != "" {
		os.Exit(runPeer(context.Background(), os.Stdin, os.Stdout, os.Stderr)) //nolint:forbidigo // it is a main
	}
	os.Exit(m.Run())
}

// TestChaos breaks the link for CHAOSTIME (2m by default) as SEED says.
func TestChaos(t *testing.T) {
	if os.Getenv("SKERRY_E2E") == "" {
		t.Skip("it needs root and minutes; \"make chaos\" (SKERRY_E2E=1) runs it")
	}
	total, err := time.ParseDuration(cmp.Or(os.Getenv("CHAOSTIME"), "2m"))
	if err != nil {
		t.Fatal("CHAOSTIME:", err)
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SEED"), strconv.FormatUint(rand.Uint64(), 10)), 10, 64)
	if err != nil {
		t.Fatal("SEED:", err)
	}
	slot, err := lab.Slot()
	if err != nil {
		t.Fatal(err)
	}
	demo, err := filepath.Abs("../../.demo")
	if err != nil {
		t.Fatal(err)
	}
	steps := schedule(seed, total, kinds(t))
	t.Logf("%d times something goes wrong in %v: CHAOSTIME=%v SEED=%d FAULTS=%q plays it again", len(steps), total, total, seed, os.Getenv("FAULTS"))
	r := &run{t: t, world: &world{
		slot: slot, seed: seed, ledger: newLedger(), linkemu: filepath.Join(demo, "bin", "linkemu"), logs: filepath.Join(demo, "chaos"),
	}}
	must(t, os.RemoveAll(r.world.logs))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := r.world.down(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("logs are in %s", r.world.logs)
		}
	})
	must(t, r.world.up(t.Context()))
	must(t, r.world.start(roleCloud))
	must(t, r.world.start(roleEdge))
	r.play(steps)
	r.finish()
}

// kinds are the faults of this run: FAULTS="nat outage" picks some.
func kinds(t *testing.T) []string {
	t.Helper()
	picked := strings.Fields(os.Getenv("FAULTS"))
	for _, k := range picked {
		if !slices.Contains(allKinds(), k) {
			t.Fatalf("FAULTS: no fault %q; there are %v", k, allKinds())
		}
	}
	if len(picked) > 0 {
		return picked
	}
	return allKinds()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run plays a schedule.
type run struct {
	t     *testing.T
	world *world
	begin time.Time
	done  []done
}

func (r *run) play(steps []step) {
	r.t.Helper()
	r.begin = time.Now()
	pause(2*time.Second, nil, nil) // the first streams
	for _, s := range steps {
		r.t.Logf("%6.1f s: %v", time.Since(r.begin).Seconds(), s)
		r.step(s)
		if trouble := r.world.ledger.trouble(); len(trouble) > 0 {
			break // what comes after has many reasons
		}
	}
}

// step plays one step and the pause after it.
func (r *run) step(s step) {
	r.t.Helper()
	d := done{step: s, begin: time.Now()}
	var wg sync.WaitGroup
	ends := make([]time.Time, len(s.Faults))
	errs := make([]error, len(s.Faults))
	for i, f := range s.Faults {
		wg.Go(func() {
			errs[i] = r.fault(f)
			ends[i] = time.Now()
		})
	}
	wg.Wait()
	must(r.t, errors.Join(errs...))
	d.end = time.Now()
	d.worst = r.world.onWorst()
	for i, f := range s.Faults {
		if f.cuts() {
			d.cut = later(d.cut, ends[i])
		}
	}
	r.done = append(r.done, d)
	pause(s.Pause, nil, nil)
}

// fault does one thing, waits, and undoes it.
func (r *run) fault(f fault) error {
	ctx, w := r.t.Context(), r.world
	hold := func(what ...string) error {
		errs := []error{w.add(ctx, 1, what...)}
		pause(f.For, nil, nil)
		return errors.Join(append(errs, w.add(ctx, -1, what...))...)
	}
	switch f.Kind {
	case faultOutage:
		return hold("seta outage", "setb outage")
	case faultOneWay:
		if f.Value == "up" {
			return hold("setb outage")
		}
		return hold("seta outage")
	case faultUDP:
		return hold("set udpblock")
	case faultNAT:
		return w.rebind(ctx, f.Value)
	case faultProfile:
		return w.profile(ctx, f.Value)
	case faultAddress:
		return w.readdress(ctx, f.Value)
	case faultDevice:
		return w.deviceDown(ctx, f.For)
	case faultLink:
		w.killLink()
		pause(f.For, nil, nil)
		return w.startLink(ctx)
	case faultCloud:
		return w.killCloud(f.For)
	case faultFrozen:
		return w.freeze(f.Value, f.For)
	}
	return fmt.Errorf("no fault %q", f.Kind)
}

// finish lets all streams come to their ends, and ends both processes.
func (r *run) finish() {
	r.t.Helper()
	defer r.judge() // whatever stops this
	l, w := r.world.ledger, r.world
	if len(l.trouble()) > 0 {
		return
	}
	must(r.t, w.profile(r.t.Context(), "A"))
	must(r.t, errors.Join(w.tell(roleEdge, wordStop), w.tell(roleCloud, wordStop)))
	begin := time.Now()
	for len(l.trouble()) == 0 {
		err := l.open()
		if err == nil {
			break
		}
		if time.Since(begin) > drainTime {
			r.t.Errorf("after %v: %v", drainTime, err)
			break
		}
		pause(100*time.Millisecond, nil, nil)
	}
	r.t.Logf("the last streams took %.1f s", time.Since(begin).Seconds())
	l.quit()
	for _, role := range []string{roleEdge, roleCloud} {
		must(r.t, w.tell(role, wordQuit))
		select {
		case <-w.peer(role).ended:
		case <-time.After(30 * time.Second):
			r.t.Errorf("the %s does not end", role)
		}
	}
}

// judge says what was wrong, and what each kind of fault cost.
func (r *run) judge() {
	r.t.Helper()
	l := r.world.ledger
	for _, d := range r.done {
		if f := d.Faults[0]; len(d.Faults) == 1 && f.Kind == faultUDP && !d.worst && f.For > longMove && !l.carried(d.begin, d.end)["tls"] {
			r.t.Errorf("%v: the session did not move to TCP", d)
		}
	}
	for _, link := range []struct {
		name  string
		worst bool
		limit time.Duration
	}{{"A to D", false, longestStall}, {"E", true, 2 * longestStall}} {
		gap, stall := l.longest(r.done, link.worst)
		if stall == 0 {
			continue
		}
		text := fmt.Sprintf("over %s no byte came for %.1f s although some could, from %.1f s on", link.name, stall.Seconds(), gap.from.Sub(r.begin).Seconds())
		if stall > link.limit {
			r.t.Error(text)
		} else {
			r.t.Log(text)
		}
	}
	trouble := l.trouble()
	for _, text := range trouble[:min(len(trouble), 20)] {
		r.t.Error(text)
	}
	if len(trouble) > 20 {
		r.t.Errorf("and %d more", len(trouble)-20)
	}
	for _, line := range l.summary(r.done) {
		r.t.Log(line)
	}
}
