package bus

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/devices/modbus/frame"
	"github.com/skerry-io/skerry/devices/modbus/modbustest"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

func serial() Config { return Config{Line: frame.Line{Baud: 9600, Parity: true, StopBits: 1}} }

// script changes the next answer only.
func script(d *modbustest.Device, f func(answer []byte) [][]byte) {
	d.Do(func() {
		d.Script = func(_ byte, _ pdu.Request, answer []byte) [][]byte {
			d.Script = nil
			return f(answer)
		}
	})
}

func TestDamagedAnswerIsAskedForAgain(t *testing.T) {
	for name, damage := range map[string]func(answer []byte) [][]byte{
		"a bit":          func(a []byte) [][]byte { a[4] ^= 4; return [][]byte{a} },
		"the unit":       func(a []byte) [][]byte { a[0] ^= 4; return [][]byte{a} },
		"the end lost":   func(a []byte) [][]byte { return [][]byte{a[:5]} },
		"the start lost": func(a []byte) [][]byte { return [][]byte{bytes.Repeat([]byte{0}, 2), a[2:]} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &modbustest.Device{RTU: true}
				d.Set(1, 0, 9)
				b := start(t, d, serial())
				script(d, damage)
				begun := time.Now()
				v, err := register(t, b, 1, 0)
				if err != nil || v != 9 {
					t.Errorf("%d, %v", v, err)
				}
				if took := time.Since(begun); took > 200*time.Millisecond {
					t.Errorf("took %v: waited for the deadline", took)
				}
				if s := b.Stats(); s.Damaged != 1 || s.Timeouts != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestGarbageBeforeAndAfterAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &modbustest.Device{RTU: true}
		d.Set(1, 0, 9)
		b := start(t, d, serial())
		script(d, func(a []byte) [][]byte { return [][]byte{{1, 3, 2, 0xFF}, a, {1, 3, 2, 0, 0}} })
		for range 3 {
			if v, err := register(t, b, 1, 0); err != nil || v != 9 {
				t.Errorf("%d, %v", v, err)
			}
		}
		if s := b.Stats(); s.Damaged+s.Timeouts != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSilenceBeforeEachFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &modbustest.Device{RTU: true}
		d.Set(1, 0, 9)
		cfg := serial()
		b := start(t, d, cfg)
		for range 5 {
			if _, err := register(t, b, 1, 0); err != nil {
				t.Fatal(err)
			}
		}
		seen := d.Seen(1)
		for i := 1; i < len(seen); i++ {
			if gap := seen[i].At.Sub(seen[i-1].At); gap != cfg.Line.Gap() { // the peer answers at once
				t.Errorf("a frame after %v, want %v", gap, cfg.Line.Gap())
			}
		}
	})
}

// A node that talks without end makes calls fail, and does not stop them.
func TestCallsEndWhileTheLineBabbles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &modbustest.Device{RTU: true}
		d.Set(1, 0, 9)
		b := start(t, d, serial())
		d.Do(func() {
			d.Script = func(byte, pdu.Request, []byte) (out [][]byte) {
				for range 5000 { // five seconds
					out = append(out, []byte{1, 3, 2}, nil)
				}
				return out
			}
		})
		for range 2 {
			begun := time.Now()
			_, err := register(t, b, 1, 0)
			if err == nil || time.Since(begun) > 2100*time.Millisecond {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
		}
	})
}

func TestBroadcast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &modbustest.Device{RTU: true}
		d.Set(1, 0, 9)
		b := start(t, d, serial())
		begun := time.Now()
		if _, err := b.Do(t.Context(), Call{Unit: 0, Request: pdu.WriteRegister(0, 4), Priority: Control}); err != nil || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if _, err := register(t, b, 1, 0); err != nil {
			t.Fatal(err)
		}
		seen := d.Seen(0)
		if len(seen) != 2 || seen[1].At.Sub(seen[0].At) < broadcast {
			t.Errorf("%v", seen)
		}
	})
}
