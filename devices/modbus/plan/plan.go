package plan

import (
	"slices"
	"time"

	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// Item is a value to read: Count registers or bits from Address on. ID is the
// caller's.
type Item struct {
	Function pdu.Function
	Address  int
	Count    int
	ID       int
}

func (i Item) end() int { return i.Address + i.Count }

// Read is one request and the items in its answer, by address.
type Read struct {
	Function pdu.Function
	Address  int
	Count    int
	Items    []Item
}

// Request is the PDU of the read.
func (r Read) Request() (pdu.Request, error) {
	return pdu.Read(r.Function, uint16(r.Address), r.Count)
}

// Cost is what requests take.
type Cost struct {
	Request  time.Duration // each
	Register time.Duration // each register, or 16 bits
}

// of is the cost of one request for so many elements.
func (c Cost) of(fn pdu.Function, count int) time.Duration {
	if fn.Bits() {
		return c.Request + c.Register*time.Duration(count)/16
	}
	return c.Request + c.Register*time.Duration(count)
}

// Plan returns the reads that get all items at the least cost, within what is
// known of the device. Items that are refused are left out.
func (k *Known) Plan(items []Item, cost Cost) []Read {
	byFunction := map[pdu.Function][]Item{}
	for _, it := range items {
		if !k.Refuses(it) {
			byFunction[it.Function] = append(byFunction[it.Function], it)
		}
	}
	var reads []Read
	for _, fn := range []pdu.Function{pdu.ReadCoils, pdu.ReadDiscreteInputs, pdu.ReadHoldingRegisters, pdu.ReadInputRegisters} {
		list := byFunction[fn]
		slices.SortStableFunc(list, func(a, b Item) int { return a.Address - b.Address })
		reads = append(reads, k.cover(fn, list, cost)...)
	}
	return reads
}

// cover cuts sorted items into reads. best[i] is the least cost of the first i items,
// from[i] where the last read of that solution begins.
func (k *Known) cover(fn pdu.Function, items []Item, cost Cost) []Read {
	limit := k.limit(fn)
	best, from := make([]time.Duration, len(items)+1), make([]int, len(items)+1)
	for i := range items {
		best[i+1] = -1
	}
	// Reads begin at i and are extended: ends only grow, and a read that is too long or
	// crosses a hole stays so.
	for i := range items {
		start, end := items[i].Address, 0
		for j := i; j < len(items); j++ {
			end = max(end, items[j].end())
			if j > i && (end-start > limit || k.crosses(fn, start, end)) {
				break
			}
			if c := best[i] + cost.of(fn, end-start); best[j+1] < 0 || c < best[j+1] {
				best[j+1], from[j+1] = c, i
			}
		}
	}
	var reads []Read
	for i := len(items); i > 0; i = from[i] {
		reads = append(reads, read(items[from[i]:i]))
	}
	slices.Reverse(reads)
	return reads
}

// read makes one read of sorted items.
func read(items []Item) Read {
	r := Read{Function: items[0].Function, Address: items[0].Address, Items: items}
	for _, it := range items {
		r.Count = max(r.Count, it.end()-r.Address)
	}
	return r
}
