package bus

import (
	"fmt"
	"testing"
	"time"

	fielddevices "github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/edgeagent/devices"
)

func sample(d, property string, v int, at int64) item {
	return item{kind: itemSample, device: devices.Name{Namespace: "ns", Name: d}, sample: fielddevices.Sample{
		Property: property, Value: int32(v), Source: time.Unix(at, 0),
	}}
}

func (q *queue) all() (list []item) {
	for {
		i, ok := q.take()
		if !ok {
			return list
		}
		list = append(list, i)
	}
}

// TestQueueOrder: while there is room everything comes in order.
func TestQueueOrder(t *testing.T) {
	q := newQueue()
	next := 0
	for i := range 3 * maxQueued {
		q.put(sample("d", "p", i, int64(i)))
		if i%3 == 2 { // as fast as they come, some behind
			for range 3 {
				got, ok := q.take()
				if !ok || got.sample.Value != int32(next) {
					t.Fatalf("%v, %v; want %d", got, ok, next)
				}
				next++
			}
		}
	}
	if _, ok := q.take(); ok || q.lost() != 0 {
		t.Errorf("%d dropped", q.lost())
	}
}

// TestQueueFull: beyond the bound the newest of each property stays, and comes after what
// was there before.
func TestQueueFull(t *testing.T) {
	q := newQueue()
	for i := range maxQueued {
		q.put(sample("d", "old", i, int64(i)))
	}
	for i := range 100 {
		q.put(sample("d", fmt.Sprint("p", i%10), i, int64(i)))
	}
	q.put(sample("d", "p9", -1, 50))                // of a time that has gone by
	q.put(item{kind: itemGap}, item{kind: itemGap}) // have no newest
	list := q.all()
	if len(list) != maxQueued+10 || q.lost() != 90+1+2 {
		t.Fatalf("%d items, %d dropped", len(list), q.lost())
	}
	for i, got := range list[maxQueued:] {
		if got.sample.Property != fmt.Sprint("p", i) || got.sample.Value != int32(90+i) {
			t.Errorf("item %d: %+v", i, got.sample)
		}
	}
	q.put(sample("d", "p", 1, 1))
	if got := q.all(); len(got) != 1 || q.bytes != 0 {
		t.Errorf("%d items, %d bytes", len(got), q.bytes)
	}
}

// TestQueueBytes: large values are bounded, too.
func TestQueueBytes(t *testing.T) {
	q := newQueue()
	for i := range 100 {
		s := sample("d", "image", i, int64(i))
		s.sample.Value = make([]byte, 1<<20)
		q.put(s)
	}
	if n := len(q.all()); n > maxQueuedBytes>>20+1 || q.lost() == 0 {
		t.Errorf("%d items, %d dropped", n, q.lost())
	}
}

// TestQueueRemoved: that a device has gone is never dropped, and comes before what is said
// of the next one of that name.
func TestQueueRemoved(t *testing.T) {
	q := newQueue()
	for i := range maxQueued {
		q.put(sample("e", "p", i, int64(i)))
	}
	q.put(sample("d", "p", 1, 1), sample("e", "q", 2, 2))
	q.put(item{kind: itemRemoved, device: devices.Name{Namespace: "ns", Name: "d"}})
	q.put(sample("d", "p", 3, 3))
	list := q.all()[maxQueued:]
	if len(list) != 3 || list[0].sample.Property != "q" || list[1].kind != itemRemoved || list[2].sample.Value != int32(3) {
		t.Errorf("%+v", list)
	}
}

// TestPublisher: what is retained, what is of a time that has gone by, and what is cleared.
func TestPublisher(t *testing.T) {
	p := &publisher{bus: &Bus{cfg: Config{Node: "edge"}}, known: make(map[devices.Name]*retained)}
	d := devices.Name{Namespace: "ns", Name: "d"}
	told := ""
	tell := func(i item) {
		i.device = d
		for _, m := range p.messages(i) {
			told += fmt.Sprintf("%s %t %s\n", m.Topic, m.Retain, m.Payload)
		}
	}
	health := fielddevices.Health{Connected: true, Reason: "Connected", Since: time.Unix(0, 0), Counters: nil}
	tell(item{kind: itemDevice, properties: []string{"a", "b"}})
	tell(item{kind: itemHealth, health: health})
	tell(item{kind: itemHealth, health: health})
	tell(sample("d", "a", 1, 10))
	tell(sample("d", "a", 2, 5))
	tell(sample("d", "b", 3, 10))
	tell(item{kind: itemGap, gap: fielddevices.Gap{Property: "a", From: time.Unix(1, 0), Lost: 3, Reason: "Outage"}})
	tell(item{kind: itemDevice, properties: []string{"b"}})
	tell(item{kind: itemRemoved})
	want := `skerry/ns/d/health true {"node":"edge","connected":true,"reason":"Connected","since":"1970-01-01T00:00:00Z"}
skerry/ns/d/value/a true {"value":1,"quality":"Good","sourceTime":"1970-01-01T00:00:10Z"}
skerry/ns/d/history/a false {"value":2,"quality":"Good","sourceTime":"1970-01-01T00:00:05Z"}
skerry/ns/d/value/b true {"value":3,"quality":"Good","sourceTime":"1970-01-01T00:00:10Z"}
skerry/ns/d/gap false {"property":"a","from":"1970-01-01T00:00:01Z","lost":3,"reason":"Outage"}
skerry/ns/d/value/a true 
skerry/ns/d/value/b true 
skerry/ns/d/health true 
`
	if told != want || len(p.known) != 0 {
		t.Errorf("got\n%swant\n%s", told, want)
	}
}

func TestLargeValue(t *testing.T) {
	got := string(valuePayload(fielddevices.Sample{Value: make([]byte, MaxPayload)}))
	if got != `{"value":null,"quality":"0x80080000"}` {
		t.Errorf("%.100s", got)
	}
}

func TestCovers(t *testing.T) {
	for _, test := range []struct {
		by, filter string
		want       bool
	}{
		{"#", "a", true},
		{"#", "a/b", true},
		{"#", "#", true},
		{"#", "+/a", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "a/+", true},
		{"a/#", "a/#", true},
		{"+", "a", true},
		{"+", "+", true},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a/+/c", true},
		{"a//b", "a//b", true},
		{"a/+/b", "a//b", true},
		{"a", "b", false},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"+", "#", false},
		{"a/+", "a/#", false},
		{"a", "+", false},
		{"+", "a/b", false},
		{"a/#", "ab", false},
		{"a/#", "+/b", false},
		{"a/#", "#", false},
		{"a/+/#", "a", false},
		{"a/+", "a", false},
		{"a/b/#", "a/+/c", false},
	} {
		if got := Covers(test.by, test.filter); got != test.want {
			t.Errorf("Covers(%q, %q) = %t", test.by, test.filter, got)
		}
	}
}

func TestValidFilter(t *testing.T) {
	for filter, want := range map[string]bool{
		"a": true, "a/+/b": true, "a/#": true, "#": true, "/": true, "ä/b": true,
		"": false, "$SYS/#": false, "a+": false, "a/#/b": false, "a/b#": false, "a\x00": false, "a\n": false, "\xff": false, "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q": false,
	} {
		if ValidFilter(filter) != want {
			t.Errorf("%q", filter)
		}
	}
}
