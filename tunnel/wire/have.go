package wire

const typeHave Type = 3

// Entry names one object and the version of it.
type Entry struct {
	Key, Version string
}

// Have tells the cloud what the edge holds, at the start of a desired stream.
// It may come in several frames; the last one says so.
type Have struct {
	Entries []Entry
	Last    bool
}

// Type implements Frame.
func (*Have) Type() Type { return typeHave }

func (f *Have) appendPayload(b []byte) []byte {
	b = appendBool(b, f.Last)
	b = appendUint(b, uint64(len(f.Entries)))
	for _, e := range f.Entries {
		b = appendBytes(b, e.Key)
		b = appendBytes(b, e.Version)
	}
	return b
}

func (f *Have) parsePayload(d *decoder) {
	f.Last = d.bool()
	n := d.count(2)
	if n == 0 {
		return
	}
	f.Entries = make([]Entry, 0, n)
	for range n {
		e := Entry{Key: d.string(), Version: d.string()}
		if d.err != nil {
			return
		}
		f.Entries = append(f.Entries, e)
	}
}
