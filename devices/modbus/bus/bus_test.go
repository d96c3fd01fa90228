package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/devices/modbus/frame"
	"github.com/skerry-io/skerry/devices/modbus/modbustest"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// start runs a bus to d until the test ends.
func start(t *testing.T, d *modbustest.Device, cfg Config) *Bus {
	t.Helper()
	cfg.Dial = func(ctx context.Context) (Conn, error) { return d.Dial(ctx) }
	cfg.RTU = d.RTU
	t.Cleanup(d.Close)
	return run(t, cfg)
}

// run runs a Bus until the test ends.
func run(t *testing.T, cfg Config) *Bus {
	t.Helper()
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	synctest.Wait()
	return b
}

// runOver is run with connections that end at peer.
func runOver(t *testing.T, peer func(net.Conn)) *Bus {
	t.Helper()
	return run(t, Config{Dial: func(context.Context) (Conn, error) {
		near, far := net.Pipe()
		go peer(far)
		return near, nil
	}})
}

func register(t *testing.T, b *Bus, unit byte, address uint16) (uint16, error) {
	t.Helper()
	data, err := b.Do(t.Context(), Call{Unit: unit, Request: read(pdu.ReadHoldingRegisters, address, 1), Priority: Poll})
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint16(data), nil
}

// both runs f over MBAP, RTU over TCP and a serial line.
func both(t *testing.T, f func(t *testing.T, d *modbustest.Device, cfg Config)) {
	t.Helper()
	for name, c := range map[string]struct {
		rtu  bool
		line frame.Line
	}{"mbap": {}, "rtu over tcp": {rtu: true}, "serial": {true, frame.Line{Baud: 19200, Parity: true, StopBits: 1}}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, &modbustest.Device{RTU: c.rtu}, Config{Line: c.line}) })
		})
	}
}

func TestReadAndWrite(t *testing.T) {
	both(t, func(t *testing.T, d *modbustest.Device, cfg Config) {
		t.Helper()
		d.Set(3, 10, 7)
		b := start(t, d, cfg)
		if v, err := register(t, b, 3, 10); err != nil || v != 7 {
			t.Fatalf("%d, %v", v, err)
		}
		if _, err := b.Do(t.Context(), Call{Unit: 3, Request: pdu.WriteRegister(10, 8), Priority: Control}); err != nil {
			t.Fatal(err)
		}
		if v := d.Get(3, 10); v != 8 {
			t.Errorf("device holds %d", v)
		}
		d.Hole(3, pdu.ReadHoldingRegisters, 11, 12)
		if _, err := register(t, b, 3, 11); !errors.Is(err, &pdu.Exception{Code: pdu.IllegalDataAddress}) {
			t.Errorf("got %v", err)
		}
		if s := b.Stats(); s.Requests != 3 || s.Answers != 2 || s.Exceptions != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A late answer holds an old value: it must never be the answer to the next
// request, however much it looks like it.
func TestLateAnswerIsNotTheNext(t *testing.T) {
	both(t, func(t *testing.T, d *modbustest.Device, cfg Config) {
		t.Helper()
		b := start(t, d, cfg)
		d.Set(3, 10, 1)
		d.Set(4, 10, 44)
		if _, err := register(t, b, 3, 10); err != nil {
			t.Fatal(err)
		}
		d.Delay(3, 1300*time.Millisecond)
		if _, err := register(t, b, 3, 10); !errors.Is(err, ErrTimeout) {
			t.Fatalf("got %v", err)
		}
		d.Delay(3, 0)
		// The device reads its memory when it answers: let the late answer hold 2, then
		// change it when that answer is on its way.
		d.Set(3, 10, 2)
		d.Do(func() {
			once := true
			d.Script = func(_ byte, _ pdu.Request, answer []byte) [][]byte {
				if once {
					once = false
					d.Set(3, 10, 3)
				}
				return [][]byte{answer}
			}
		})
		if v, err := register(t, b, 3, 10); err != nil || v != 3 {
			t.Errorf("%d, %v: want what the device holds now", v, err)
		}
		if v, err := register(t, b, 4, 10); err != nil || v != 44 {
			t.Errorf("%d, %v", v, err)
		}
		if s := b.Stats(); !d.RTU && s.Late != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Every third answer is late by a random time; whatever is returned must have been
// true after the request was made.
func TestNoStaleValueEver(t *testing.T) {
	both(t, func(t *testing.T, d *modbustest.Device, cfg Config) {
		t.Helper()
		cfg.Timeout = 100 * time.Millisecond
		b := start(t, d, cfg)
		d.Set(1, 0, 0)
		var n atomic.Uint32
		d.Do(func() {
			d.Script = func(_ byte, _ pdu.Request, answer []byte) [][]byte {
				if n := n.Load(); n%3 == 2 {
					time.Sleep(time.Duration(60+n%7*30) * time.Millisecond) //nolint:forbidigo // a late answer
				}
				return [][]byte{answer}
			}
		})
		good := 0
		for i := range uint16(600) {
			d.Set(1, 0, i)
			n.Store(uint32(i))
			v, err := register(t, b, 1, 0)
			if err == nil {
				good++
				if v != i {
					t.Fatalf("read %d, the device has held %d since before the request", v, i)
				}
			}
			time.Sleep(50 * time.Millisecond) //nolint:forbidigo // the period of a poll
		}
		if good < 200 {
			t.Errorf("%d of 600 reads had an answer", good)
		}
	})
}

// polls lets each of n units be polled in a loop for a while and counts answers.
func polls(t *testing.T, b *Bus, n int, during time.Duration) map[byte]int {
	t.Helper()
	var mu sync.Mutex
	count := map[byte]int{}
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	var wg sync.WaitGroup
	for unit := byte(1); unit <= byte(n); unit++ {
		wg.Go(func() {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				if _, err := b.Do(ctx, Call{Unit: unit, Request: read(pdu.ReadHoldingRegisters, 0, 4), Priority: Poll}); err == nil {
					mu.Lock()
					count[unit]++
					mu.Unlock()
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	wg.Wait()
	return count
}

func TestOneDeadUnitOfEightCostsTheOthersUnderFivePercent(t *testing.T) {
	both(t, func(t *testing.T, d *modbustest.Device, cfg Config) {
		t.Helper()
		for unit := byte(1); unit <= 8; unit++ {
			d.Set(unit, 0, 1)
			d.Delay(unit, 10*time.Millisecond)
		}
		b := start(t, d, cfg)
		const during = time.Minute
		before := polls(t, b, 8, during)
		d.Silence(5, true)
		after := polls(t, b, 8, during)
		for unit := byte(1); unit <= 8; unit++ {
			if unit == 5 {
				continue
			}
			if lost := 1 - float64(after[unit])/float64(before[unit]); lost >= 0.05 {
				t.Errorf("unit %d: %d answers instead of %d: %.1f %% lost", unit, after[unit], before[unit], 100*lost)
			}
		}
		t.Logf("alive %v, one dead %v", before, after)
		var demoted *DemotedError
		if _, err := register(t, b, 5, 0); !errors.As(err, &demoted) || !errors.Is(err, ErrTimeout) || demoted.Unit != 5 {
			t.Errorf("got %v", err)
		}
		d.Silence(5, false)
		time.Sleep(time.Until(demoted.Until)) //nolint:forbidigo // as the error says
		if _, err := register(t, b, 5, 0); err != nil {
			t.Errorf("alive again: %v", err)
		}
		if s := b.Stats(); s.Drops != 0 {
			t.Errorf("%d reconnects because of one dead unit", s.Drops)
		}
	})
}

func TestRecoversFromFaultsOfTheConnection(t *testing.T) {
	both(t, func(t *testing.T, d *modbustest.Device, cfg Config) {
		t.Helper()
		d.Set(1, 0, 9)
		b := start(t, d, cfg)
		until := func(limit time.Duration) time.Duration {
			t.Helper()
			begun := time.Now()
			for time.Since(begun) < limit {
				if v, err := register(t, b, 1, 0); err == nil && v == 9 {
					return time.Since(begun)
				}
				time.Sleep(50 * time.Millisecond) //nolint:forbidigo // the period of a poll
			}
			t.Fatalf("no answer after %v: %v", limit, b.Err())
			return 0
		}
		until(time.Second)
		d.Cut()
		t.Logf("after a cut: %v", until(time.Second))

		d.Down(true)
		synctest.Wait()
		begun := time.Now()
		if _, err := register(t, b, 1, 0); !errors.Is(err, ErrNotConnected) || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		time.Sleep(3 * time.Second) //nolint:forbidigo // the outage
		d.Down(false)
		t.Logf("after 3 s of refusal: %v", until(5*time.Second))

		d.BlackHole(true)
		end := time.Now().Add(20 * time.Second)
		for time.Now().Before(end) {
			if _, err := register(t, b, 1, 0); err == nil {
				t.Fatal("an answer out of a black hole")
			}
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the period of a poll
		}
		d.BlackHole(false)
		t.Logf("after 20 s of black hole: %v", until(dialTimeout+15*time.Second))
	})
}

func TestDialsWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &modbustest.Device{}
		d.Down(true)
		start(t, d, Config{})
		time.Sleep(time.Hour) //nolint:forbidigo // virtual
		// One a minute at the least, one in half the longest pause at the most.
		if n := d.Dials(); n < 60 || n > 3600/5+20 {
			t.Errorf("%d dials in an hour", n)
		}
	})
}

func TestControlGoesFirstAndUnitsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &modbustest.Device{}
		for unit := byte(1); unit <= 3; unit++ {
			d.Set(unit, 0, 1)
			d.Delay(unit, 10*time.Millisecond)
		}
		b := start(t, d, Config{Pipeline: 1})
		var wg sync.WaitGroup
		ask := func(unit byte, r pdu.Request, p Priority) {
			wg.Add(1)
			b.Go(Call{Unit: unit, Request: r, Priority: p, Done: func([]byte, time.Duration, error) { wg.Done() }})
		}
		for range 20 {
			ask(1, read(pdu.ReadHoldingRegisters, 0, 1), Poll)
		}
		ask(2, read(pdu.ReadHoldingRegisters, 0, 1), Poll)
		ask(3, pdu.WriteRegister(5, 1), Control)
		wg.Wait()
		seen := d.Seen(0)
		var order []byte
		for _, s := range seen[:4] {
			order = append(order, s.Unit)
		}
		// The first may have been taken before the others came.
		if i := at(order, 3); i > 1 {
			t.Errorf("the write came as number %d: %v", i+1, order)
		}
		if i := at(order, 2); i < 0 {
			t.Errorf("unit 2 waits behind all of unit 1: %v", order)
		}
	})
}

func at(order []byte, unit byte) int {
	for i, u := range order {
		if u == unit {
			return i
		}
	}
	return -1
}

func TestEndOfContextEndsACall(t *testing.T) {
	both(t, func(t *testing.T, d *modbustest.Device, cfg Config) {
		t.Helper()
		d.Set(1, 0, 9)
		d.Delay(1, 500*time.Millisecond)
		b := start(t, d, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := b.Do(ctx, Call{Unit: 1, Request: read(pdu.ReadHoldingRegisters, 0, 1), Priority: Poll}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if v, err := register(t, b, 1, 0); err != nil || v != 9 {
			t.Errorf("next: %d, %v", v, err)
		}
	})
}

func TestOutOfStepPeerIsDialledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &modbustest.Device{}
		d.Set(1, 0, 9)
		b := start(t, d, Config{})
		d.Do(func() {
			d.Script = func(_ byte, _ pdu.Request, answer []byte) [][]byte {
				d.Script = nil
				return [][]byte{[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), answer}
			}
		})
		if _, err := register(t, b, 1, 0); !errors.Is(err, ErrNotConnected) || !errors.Is(err, frame.ErrOutOfStep) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second) //nolint:forbidigo // time to dial
		if v, err := register(t, b, 1, 0); err != nil || v != 9 {
			t.Errorf("next: %d, %v", v, err)
		}
	})
}

// pipes with 100 ms of round trip.
func TestPipelineHidesTheRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := func(conn net.Conn) {
			var r frame.MBAPReader
			buf := make([]byte, 1024)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				r.Feed(buf[:n])
				for {
					h, _, ok, _ := r.Next()
					if !ok {
						break
					}
					time.AfterFunc(100*time.Millisecond, func() {
						conn.Write(h.Append(nil, []byte{3, 2, 0, 1}))
					})
				}
			}
		}
		b := runOver(t, peer)
		rate := func() int {
			before := b.Stats().Answers
			var wg sync.WaitGroup
			end := time.Now().Add(20 * time.Second)
			for range 16 {
				wg.Go(func() {
					for time.Now().Before(end) {
						if _, err := b.Do(t.Context(), Call{Unit: 1, Request: read(pdu.ReadHoldingRegisters, 0, 1), Priority: Poll}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			return int(b.Stats().Answers-before) / 20
		}
		rate()
		rate()
		if r := rate(); r < 79 {
			t.Errorf("%d polls/s with a round trip of 100 ms and a window of up to %d", r, maxWindow)
		}
	})
}

// A peer that takes one request at a time and forgets the rest costs one timeout.
func TestPipelineEndsWhereThePeerForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := func(conn net.Conn) {
			var busy sync.Mutex
			buf := make([]byte, 1024)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				if !busy.TryLock() || n != 12 {
					continue
				}
				h := frame.MBAP{Transaction: modbustest.Tag(buf), Unit: buf[6]}
				time.AfterFunc(10*time.Millisecond, func() {
					busy.Unlock()
					conn.Write(h.Append(nil, []byte{3, 2, 0, 1}))
				})
			}
		}
		b := runOver(t, peer)
		end := time.Now().Add(50 * time.Second)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for time.Now().Before(end) {
					_, _ = b.Do(t.Context(), Call{Unit: 1, Request: read(pdu.ReadHoldingRegisters, 0, 1), Priority: Poll})
				}
			})
		}
		wg.Wait()
		if s := b.Stats(); s.Timeouts != 1 || s.Answers < 4500 || s.Drops != 0 {
			t.Errorf("%+v", s)
		}
	})
}
