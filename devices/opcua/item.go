package opcua

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// item is a property at a server.
type item struct {
	name     string
	address  string
	at       address
	model    v1alpha1.Property
	verify   bool
	handle   uint32
	key      uint32 // names it in the saved state
	sampling time.Duration
	queue    uint32
	filter   *ua.DataChangeFilter
	deadband float64 // 0 for none, in the value's unit

	// What the current session says; written when it is attached, under conn.mu.
	node     *ua.NodeID // nil where the server has no such namespace
	dataType *ua.NodeID
	rank     int32
	refused  ua.StatusCode // the server does not watch it
	retry    time.Time     // when to ask again
	retries  int

	// What was delivered last; the delivering goroutine's alone.
	last    time.Time // source time, or server time
	value   devices.Value
	quality devices.Quality
	sent    bool // value is of this process
	resync  bool // values may be missing before the next
}

// itemKey names an item in a device's state.
func itemKey(name, address string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name + "\x00" + address))
	return h.Sum32()
}

// within reports whether a value is inside the deadband around the last.
func (it *item) within(v devices.Value, q devices.Quality) bool {
	if it.deadband <= 0 || !it.sent || q != it.quality {
		return false
	}
	a, aok := devices.Float(it.value)
	b, bok := devices.Float(v)
	return aok && bok && math.Abs(a-b) <= it.deadband
}
