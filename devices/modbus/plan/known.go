package plan

import "github.com/skerry-io/skerry/devices/modbus/pdu"

// Known is what is known of one unit: limits that were given, and what it has
// refused. The zero value knows only the specification's limits.
type Known struct {
	// MaxRegisters and MaxBits bound a request; 0 is the specification's bound.
	MaxRegisters, MaxBits int

	limits  map[pdu.Function]int
	holes   map[edge]struct{}
	refused map[place]struct{}
}

// edge is an address that no request of a function may cross.
type edge struct {
	fn pdu.Function
	at int
}

// place is where an item is.
type place struct {
	fn             pdu.Function
	address, count int
}

// Refuses reports whether the device refuses the item, even alone.
func (k *Known) Refuses(it Item) bool {
	_, ok := k.refused[place{it.Function, it.Address, it.Count}]
	return ok
}

// Forget makes the next Plan ask for the item again.
func (k *Known) Forget(it Item) { delete(k.refused, place{it.Function, it.Address, it.Count}) }

func (k *Known) limit(fn pdu.Function) int {
	given, most := k.MaxRegisters, pdu.MaxReadRegisters
	if fn.Bits() {
		given, most = k.MaxBits, pdu.MaxReadBits
	}
	if given > 0 {
		most = min(most, given)
	}
	if l, ok := k.limits[fn]; ok {
		most = min(most, l)
	}
	return most
}

// crosses reports whether a request from..to-1 crosses a hole.
func (k *Known) crosses(fn pdu.Function, from, to int) bool {
	for e := range k.holes {
		if e.fn == fn && from < e.at && e.at < to {
			return true
		}
	}
	return false
}

// Learn finds out why the device refused r with an exception: it asks for parts of
// it until each item was read or is known to be refused. ask makes one read and
// returns whether it was refused with an exception of that kind, and which; an
// error ends the search, with what was learned so far.
func (k *Known) Learn(r Read, code pdu.Code, ask func(Read) (pdu.Code, error)) error {
	left, right, ok := split(r)
	if !ok {
		if k.refused == nil {
			k.refused = map[place]struct{}{}
		}
		for _, it := range r.Items {
			k.refused[place{it.Function, it.Address, it.Count}] = struct{}{}
		}
		return nil
	}
	codes := [2]pdu.Code{}
	for i, half := range []Read{left, right} {
		var err error
		if codes[i], err = ask(half); err != nil {
			return err
		}
	}
	if codes[0] == 0 && codes[1] == 0 { // only together it was too much
		k.learned(r, code, left, right)
	}
	for i, half := range []Read{left, right} {
		if codes[i] != 0 {
			if err := k.Learn(half, codes[i], ask); err != nil {
				return err
			}
		}
	}
	return nil
}

// learned notes that r was refused, and each half of it was not.
func (k *Known) learned(r Read, code pdu.Code, left, right Read) {
	if code == pdu.IllegalDataValue { // what the specification has for a count that is too high
		if k.limits == nil {
			k.limits = map[pdu.Function]int{}
		}
		k.limits[r.Function] = min(k.limit(r.Function), max(left.Count, right.Count))
		return
	}
	if k.holes == nil {
		k.holes = map[edge]struct{}{}
	}
	k.holes[edge{r.Function, right.Address}] = struct{}{}
}

// Splits reports whether an exception may go away when less is asked for.
func Splits(code pdu.Code) bool {
	return code == pdu.IllegalDataAddress || code == pdu.IllegalDataValue || code == pdu.DeviceFailure
}

// split cuts a read at its widest gap, or in the middle where there is none; false
// for one that can't be cut: of one item, or of items that overlap.
func split(r Read) (left, right Read, ok bool) {
	at, widest, off := 0, -1, 0
	end := r.Items[0].end()
	for i := 1; i < len(r.Items); i++ {
		gap := r.Items[i].Address - end
		fromMiddle := max(i, len(r.Items)-i)
		if gap >= 0 && (gap > widest || gap == widest && fromMiddle < off) {
			at, widest, off = i, gap, fromMiddle
		}
		end = max(end, r.Items[i].end())
	}
	if at == 0 {
		return Read{}, Read{}, false
	}
	return read(r.Items[:at]), read(r.Items[at:]), true
}
