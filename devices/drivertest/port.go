package drivertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
)

// patience is how long to wait for what must come: much more than any machine
// needs.
const patience = time.Minute

// Port keeps what a driver delivers. The zero value is ready.
type Port struct {
	mu      sync.Mutex // guards the following fields
	batches []devices.Batch
	state   []byte
	health  []devices.Health
	changed chan struct{}
	refuse  error
}

// Deliver implements devices.Port.
func (p *Port) Deliver(ctx context.Context, b devices.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return p.refuse
	}
	p.batches = append(p.batches, b)
	if b.State != nil {
		p.state = slices.Clone(b.State)
	}
	p.ringLocked()
	return nil
}

// State implements devices.Port.
func (p *Port) State() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.state)
}

// Report implements devices.Port.
func (p *Port) Report(h devices.Health) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.health = append(p.health, h)
	p.ringLocked()
}

// Refuse has Deliver return an error, nil for no longer.
func (p *Port) Refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = err
}

func (p *Port) ringLocked() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// Samples gives all that was delivered, in order.
func (p *Port) Samples() []devices.Sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []devices.Sample
	for _, b := range p.batches {
		all = append(all, b.Samples...)
	}
	return all
}

// Gaps gives all that were delivered, in order.
func (p *Port) Gaps() []devices.Gap {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []devices.Gap
	for _, b := range p.batches {
		all = append(all, b.Gaps...)
	}
	return all
}

// Health gives what was reported last.
func (p *Port) Health() devices.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.health) == 0 {
		return devices.Health{}
	}
	return p.health[len(p.health)-1]
}

// Until waits until a condition holds, looking whenever something was delivered
// or reported.
func (p *Port) Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		p.mu.Lock()
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			tb.Fatalf("waited %v for %s; health %+v, last sample %s", patience, what, p.Health(), p.last())
		}
	}
}

func (p *Port) last() string {
	all := p.Samples()
	if len(all) == 0 {
		return "none"
	}
	return fmt.Sprintf("%+v", all[len(all)-1])
}

// UntilConnected waits until the driver says so, or says that it is not.
func (p *Port) UntilConnected(tb testing.TB, connected bool) {
	tb.Helper()
	p.Until(tb, fmt.Sprintf("connected=%v", connected), func() bool {
		h := p.Health()
		return h.Connected == connected && h.Reason != ""
	})
}

// UntilValue waits until a property has a good value that was delivered after
// the first n samples.
func (p *Port) UntilValue(tb testing.TB, n int, property string, want devices.Value) {
	tb.Helper()
	p.Until(tb, fmt.Sprintf("%s = %v", property, want), func() bool {
		all := p.Samples()
		return slices.ContainsFunc(all[n:], func(s devices.Sample) bool {
			return s.Property == property && s.Quality.IsGood() && devices.Equal(s.Value, want)
		})
	})
}
