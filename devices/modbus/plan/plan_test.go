package plan

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

func holding(address, count int) Item {
	return Item{Function: pdu.ReadHoldingRegisters, Address: address, Count: count}
}

// spans are the reads as [address, count].
func spans(reads []Read) (s [][2]int) {
	for _, r := range reads {
		s = append(s, [2]int{r.Address, r.Count})
	}
	return s
}

func TestPlan(t *testing.T) {
	lan := Cost{time.Millisecond, time.Microsecond}
	slow := Cost{20 * time.Millisecond, 2 * time.Millisecond} // 9600 baud: ten registers are a request
	for _, c := range []struct {
		name  string
		known Known
		items []Item
		cost  Cost
		want  [][2]int
	}{
		{"nothing", Known{}, nil, lan, nil},
		{"neighbours", Known{}, []Item{holding(2, 2), holding(0, 2), holding(4, 1)}, slow, [][2]int{{0, 5}}},
		{"a narrow gap", Known{}, []Item{holding(0, 1), holding(10, 1)}, slow, [][2]int{{0, 11}}},
		{"a wide gap", Known{}, []Item{holding(0, 1), holding(12, 1)}, slow, [][2]int{{0, 1}, {12, 1}}},
		{"a wide gap on a LAN", Known{}, []Item{holding(0, 1), holding(100, 1)}, lan, [][2]int{{0, 101}}},
		{"wider than a request", Known{}, []Item{holding(0, 1), holding(125, 1)}, lan, [][2]int{{0, 1}, {125, 1}}},
		{"cut at the gap, not at the limit", Known{}, []Item{holding(0, 60), holding(70, 30), holding(100, 60)}, slow, [][2]int{{0, 60}, {70, 90}}},
		{"a limit", Known{MaxRegisters: 4}, []Item{holding(0, 2), holding(2, 2), holding(4, 2)}, lan, [][2]int{{0, 2}, {2, 4}}},
		{"the same twice and one inside", Known{}, []Item{holding(0, 4), holding(0, 4), holding(1, 1)}, lan, [][2]int{{0, 4}}},
		{"bits", Known{}, []Item{{pdu.ReadCoils, 0, 1, 0}, {pdu.ReadCoils, 1999, 1, 1}, {pdu.ReadCoils, 2000, 1, 2}}, lan, [][2]int{{0, 1}, {1999, 2}}},
		{"tables", Known{}, []Item{holding(0, 1), {pdu.ReadInputRegisters, 1, 1, 1}}, lan, [][2]int{{0, 1}, {1, 1}}},
	} {
		got := c.known.Plan(c.items, c.cost)
		// Two ways to cut at a limit may cost the same.
		if c.name == "a limit" || c.name == "bits" {
			if len(got) != len(c.want) {
				t.Errorf("%s: %v", c.name, spans(got))
			}
			continue
		}
		if diff := cmp.Diff(c.want, spans(got)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// Whatever is planned has each item once, within limits; and no plan of one request
// less is possible where requests cost all.
func TestPlanIsWholeAndWithinBounds(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		k := Known{MaxRegisters: 1 + rnd.IntN(125)}
		var items []Item
		for i := range rnd.IntN(60) {
			it := holding(rnd.IntN(400), 1+rnd.IntN(min(8, k.MaxRegisters)))
			it.ID = i
			items = append(items, it)
		}
		seen := map[int]int{}
		for _, r := range k.Plan(items, Cost{time.Duration(rnd.IntN(100)), time.Duration(1 + rnd.IntN(10))}) {
			if r.Count < 1 || r.Count > k.MaxRegisters {
				t.Fatalf("seed %d: a request for %d registers of %d", seed, r.Count, k.MaxRegisters)
			}
			for _, it := range r.Items {
				seen[it.ID]++
				if it.Address < r.Address || it.end() > r.Address+r.Count {
					t.Fatalf("seed %d: %v is not in %d+%d", seed, it, r.Address, r.Count)
				}
			}
		}
		for _, it := range items {
			if seen[it.ID] != 1 {
				t.Fatalf("seed %d: %v is read %d times", seed, it, seen[it.ID])
			}
		}
	}
}

// device refuses what touches a hole or is too long.
type device struct {
	holes [][2]int
	limit int
	asked int
}

func (d *device) ask(r Read) (pdu.Code, error) {
	d.asked++
	if d.limit > 0 && r.Count > d.limit {
		return pdu.IllegalDataValue, nil
	}
	for _, h := range d.holes {
		if r.Address < h[1] && h[0] < r.Address+r.Count {
			return pdu.IllegalDataAddress, nil
		}
	}
	return 0, nil
}

// settle polls until a round has no refusal, and returns how many rounds and reads it took.
func settle(t *testing.T, k *Known, d *device, items []Item) []Read {
	t.Helper()
	for range 20 {
		reads, refused := k.Plan(items, Cost{time.Millisecond, time.Microsecond}), false
		for _, r := range reads {
			code, _ := d.ask(r)
			if code == 0 {
				continue
			}
			refused = true
			if err := k.Learn(r, code, d.ask); err != nil {
				t.Fatal(err)
			}
		}
		if !refused {
			return reads
		}
	}
	t.Fatal("still refused after 20 rounds")
	return nil
}

func TestLearn(t *testing.T) {
	var row []Item
	for i := range 20 {
		row = append(row, holding(i*5, 2))
	}
	for _, c := range []struct {
		name    string
		device  device
		want    [][2]int
		refused []int
	}{
		{"a hole between values", device{holes: [][2]int{{52, 54}}}, [][2]int{{0, 52}, {55, 42}}, nil},
		{"two holes", device{holes: [][2]int{{23, 24}, {77, 78}}}, [][2]int{{0, 22}, {25, 52}, {80, 17}}, nil},
		{"a value that is not there", device{holes: [][2]int{{50, 52}}}, nil, []int{50}},
		{"the end is missing", device{holes: [][2]int{{90, 200}}}, [][2]int{{0, 87}}, []int{90, 95}},
		{"nothing is there", device{holes: [][2]int{{0, 200}}}, nil, []int{0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k Known
			got := settle(t, &k, &c.device, row)
			if c.want != nil {
				if diff := cmp.Diff(c.want, spans(got)); diff != "" {
					t.Error(diff)
				}
			}
			var refused []int
			for _, it := range row {
				if k.Refuses(it) {
					refused = append(refused, it.Address)
				}
			}
			if diff := cmp.Diff(c.refused, refused); diff != "" {
				t.Error(diff)
			}
			if c.device.asked > 4*len(row)+20 {
				t.Errorf("%d requests to learn it", c.device.asked)
			}
		})
	}
	t.Run("a limit of size", func(t *testing.T) {
		var k Known
		d := device{limit: 32}
		for _, r := range settle(t, &k, &d, row) {
			if r.Count > 32 || r.Count < 10 {
				t.Errorf("a request for %d registers of 32", r.Count)
			}
		}
	})
	t.Run("an error ends it", func(t *testing.T) {
		var k Known
		lost := errors.New("lost")
		err := k.Learn(read(row), pdu.IllegalDataAddress, func(Read) (pdu.Code, error) { return 0, lost })
		if !errors.Is(err, lost) || len(k.holes)+len(k.refused) > 0 {
			t.Errorf("%v, %+v", err, k)
		}
	})
	t.Run("forget", func(t *testing.T) {
		var k Known
		if err := k.Learn(read(row[:1]), pdu.IllegalDataAddress, nil); err != nil || !k.Refuses(row[0]) {
			t.Fatal(err)
		}
		k.Forget(row[0])
		if k.Refuses(row[0]) {
			t.Error("still refused")
		}
	})
}

func TestMeter(t *testing.T) {
	m := NewMeter(Cost{time.Millisecond, 10 * time.Microsecond})
	if c := m.Cost(); (c.Request-time.Millisecond).Abs() > time.Microsecond || (c.Register-10*time.Microsecond).Abs() > 100 {
		t.Errorf("the guess became %v", c)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		n := 1 + rnd.IntN(125)
		m.Add(n, 20*time.Millisecond+time.Duration(n)*2*time.Millisecond+time.Duration(rnd.IntN(1000))*time.Microsecond)
	}
	c := m.Cost()
	if (c.Request-20500*time.Microsecond).Abs() > 500*time.Microsecond || (c.Register-2*time.Millisecond).Abs() > 50*time.Microsecond {
		t.Errorf("measured %v", c)
	}
	if before := (Cost{time.Millisecond, 10 * time.Microsecond}); !before.Differs(c) || c.Differs(c) {
		t.Errorf("a gap of %d registers, then %d", before.gap(), c.gap())
	}
	// Requests of one size only: the sum is right, whatever the parts.
	m = NewMeter(Cost{time.Millisecond, 10 * time.Microsecond})
	for range 2000 {
		m.Add(10, 50*time.Millisecond)
	}
	if c := m.Cost(); (c.Request + 10*c.Register - 50*time.Millisecond).Abs() > time.Millisecond {
		t.Errorf("measured %v", c)
	}
}
