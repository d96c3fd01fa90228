package pace

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// path is one of the emulated links, in one direction; acknowledgements take as long and
// are lost as often.
type path struct {
	name  string
	rtt   time.Duration
	mbit  float64
	loss  float64 // share; with burst the mean of Gilbert-Elliott
	burst float64
	queue float64 // bytes
	// jitter is by how much more a packet or an acknowledgement may take, in order.
	jitter time.Duration
}

var paths = []path{
	{name: "B", rtt: 60 * time.Millisecond, mbit: 20, loss: 0.01, queue: 250e3},
	{name: "C", rtt: 600 * time.Millisecond, mbit: 10, loss: 0.01, queue: 375e3},
	{name: "D", rtt: 300 * time.Millisecond, mbit: 5, loss: 0.05, queue: 125e3},
	{name: "E", rtt: 400 * time.Millisecond, mbit: 2, loss: 0.1, burst: 5, queue: 75e3},
}

// event is something that happens in a simulation.
type event struct {
	at time.Duration
	n  int // keeps the order of equals
	do func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// simulation is a path with flows on it.
type simulation struct {
	path
	random *rand.Rand
	now    time.Duration
	events events
	n      int
	free   time.Duration // when the line has sent what is queued
	last   [2]time.Duration
	bad    [2]bool
	delays []time.Duration // in the queue, of each packet
	drops  int
}

var epoch = time.Unix(0, 0)

func (s *simulation) at(t time.Duration, do func()) {
	s.n++
	heap.Push(&s.events, event{max(t, s.now), s.n, do})
}

func (s *simulation) run(until time.Duration) {
	for len(s.events) > 0 && s.events[0].at <= until {
		e, _ := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	s.now = until
}

func (s *simulation) lose(way int) bool {
	if s.burst == 0 {
		return s.random.Float64() < s.loss
	}
	change := 1 / s.burst
	if !s.bad[way] {
		change = s.loss / (s.burst * (1 - s.loss))
	}
	if s.random.Float64() < change {
		s.bad[way] = !s.bad[way]
	}
	return s.bad[way]
}

// send carries a packet to the far side.
func (s *simulation) send(size int, arrived func()) {
	const headers = 28
	rate := s.mbit * 1e6 / 8
	backlog := max(s.free-s.now, 0)
	if backlog.Seconds()*rate+float64(size) > s.queue {
		s.drops++
		return
	}
	s.delays = append(s.delays, backlog)
	s.free = s.now + backlog + time.Duration(float64(size+headers)/rate*1e9)
	if !s.lose(0) {
		s.deliver(0, s.free, arrived)
	}
}

// reply carries something small back.
func (s *simulation) reply(arrived func()) {
	if !s.lose(1) {
		s.deliver(1, s.now, arrived)
	}
}

func (s *simulation) deliver(way int, from time.Duration, arrived func()) {
	at := from + s.rtt/2
	if s.jitter > 0 {
		at += time.Duration(s.random.Int64N(int64(s.jitter)))
	}
	s.last[way] = max(s.last[way], at)
	s.at(s.last[way], arrived)
}

// flow is a Sender with endless work, and its Receiver.
type flow struct {
	s     *simulation
	out   *Sender[int]
	in    Receiver
	got   int // bytes
	armed time.Duration
	ackAt time.Duration
}

func (s *simulation) flow() *flow {
	f := &flow{s: s, out: NewSender[int](1452, 0, s.rtt)}
	s.at(s.now, f.step)
	return f
}

func (f *flow) step() {
	now := epoch.Add(f.s.now)
	none := func(int) {}
	f.out.Expire(now, none)
	for {
		d, ok := f.out.Wait(now)
		if !ok || d > 0 {
			break
		}
		n := f.out.Next()
		f.out.Sent(now, 1452, 1400, false)
		f.s.send(1452, func() { f.arrived(n) })
	}
	next := f.out.Deadline()
	if d, ok := f.out.Wait(now); ok {
		next = now.Add(max(d, time.Millisecond))
	}
	if at := next.Sub(epoch); f.armed <= f.s.now || at < f.armed {
		f.armed = at
		f.s.at(at, func() {
			if f.armed == at {
				f.step()
			}
		})
	}
}

func (f *flow) arrived(n uint64) {
	f.got += 1400
	f.in.Got(epoch.Add(f.s.now), n)
	due := f.in.Due(f.s.rtt).Sub(epoch)
	if f.ackAt <= f.s.now || due < f.ackAt {
		f.ackAt = due
		f.s.at(due, f.ack)
	}
}

func (f *flow) ack() {
	if f.in.Due(f.s.rtt).IsZero() {
		return
	}
	ranges, delay := f.in.Ack(epoch.Add(f.s.now))
	ranges = slices.Clone(ranges)
	f.s.reply(func() {
		f.out.Ack(epoch.Add(f.s.now), ranges, delay, func(int) {}, func(int) {})
		f.step()
	})
}

func simulate(p path, seed uint64) *simulation {
	return &simulation{path: p, random: rand.New(rand.NewPCG(seed, 1))}
}

func (s *simulation) share(bytes int, during time.Duration) float64 {
	return float64(bytes) * 8 / 1e6 / during.Seconds() / s.mbit
}

// Bulk of 22 s with its start has the share of each link that is asked for, and half
// of its packets find a short queue.
func TestShare(t *testing.T) {
	want := map[string]float64{"B": 0.85, "C": 0.65, "D": 0.75, "E": 0.70}
	for _, p := range paths {
		for _, jitter := range []time.Duration{0, 30 * time.Millisecond} {
			p.jitter = jitter
			t.Run(fmt.Sprintf("%s jitter %v", p.name, jitter), func(t *testing.T) {
				for seed := range uint64(4) {
					s := simulate(p, seed)
					f := s.flow()
					s.run(22 * time.Second)
					slices.Sort(s.delays)
					got, half, tail := s.share(f.got, s.now), s.delays[len(s.delays)/2], s.delays[len(s.delays)*99/100]
					t.Logf("%.0f %%, queue %v, at most %v, %d dropped, %.3f lost by chance, rate %.2f", 100*got, half.Round(time.Millisecond), tail.Round(time.Millisecond), s.drops, f.out.Loss(), f.out.Rate()*8/1e6)
					least := want[p.name]
					if jitter > 0 { // it looks like a queue that comes and goes
						least *= 0.8
					}
					if got < least {
						t.Errorf("%.0f %% of the link, want %.0f %%", 100*got, 100*least)
					}
					if most := time.Duration(p.queue * 8 / p.mbit / 1e6 * 1e9); half > most*9/10 {
						t.Errorf("half of the packets wait %v where the queue has %v", half, most)
					}
				}
			})
		}
	}
}

// Paths that nothing was tuned on are filled, too.
func TestAnyPath(t *testing.T) {
	worst := 1.0
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		p := path{rtt: time.Duration(15+r.IntN(500)) * time.Millisecond, mbit: 1 + 40*r.Float64()*r.Float64(), loss: 0.08 * r.Float64() * r.Float64()}
		p.queue = max((0.4+1.6*r.Float64())*p.mbit*1e6/8*p.rtt.Seconds(), 20e3)
		least := 0.6
		if r.IntN(3) == 0 {
			p.jitter, least = p.rtt/10, 0.45
		}
		s := simulate(p, seed)
		f := s.flow()
		s.run(30 * time.Second)
		got := s.share(f.got, s.now) / (1 - p.loss)
		if worst = min(worst, got); got < least {
			t.Errorf("seed %d: %.0f %% of %.1f Mbit/s, %v and %v jitter, %.1f %% loss, a queue of %.0f KB", seed, 100*got, p.mbit, p.rtt, p.jitter, 100*p.loss, p.queue/1e3)
		}
	}
	t.Logf("the worst has %.0f %% of what is not lost", 100*worst)
}

// Flows that share a path share it fairly, whether they begin at one instant or one
// after the other.
func TestFlowsShare(t *testing.T) {
	for _, apart := range []time.Duration{0, 100 * time.Millisecond, time.Second} {
		for _, n := range []int{2, 5, 20} {
			for seed := range uint64(1 + 2/n) { // the more flows, the less chance
				s := simulate(paths[0], seed)
				var flows []*flow
				for range n {
					flows = append(flows, s.flow())
					s.run(s.now + apart)
				}
				s.run(s.now + 10*time.Second)
				for _, f := range flows {
					f.got = 0
				}
				s.delays, s.drops = nil, 0
				s.run(s.now + 30*time.Second)
				var sum, squares float64
				for _, f := range flows {
					sum += float64(f.got)
					squares += float64(f.got) * float64(f.got)
				}
				slices.Sort(s.delays)
				jain := sum * sum / float64(n) / squares
				t.Logf("%d flows, %v apart: Jain %.3f, together %.0f %%, queue %v, drops %d", n, apart, jain, 100*s.share(int(sum), 30*time.Second), s.delays[len(s.delays)/2], s.drops)
				if jain < 0.9 {
					t.Errorf("%d flows, %v apart: Jain's index is %.3f, want 0.9", n, apart, jain)
				}
			}
		}
	}
}
