package wire

const typeProgress Type = 29

// Progress tells how far the edge has come with the versions that it has stored.
// It is about keys and not about seqs: the changes may have been sent on a stream
// of long ago. At the beginning of a stream it names whatever is not as far as it
// will come; a key of which nothing is said is.
type Progress struct {
	Entries []Advance
}

// Advance is how far the edge has come with one object.
type Advance struct {
	Key  string
	Step Step
	// Seconds is for how long the version has been stored.
	Seconds uint64
}

// Type implements Frame.
func (*Progress) Type() Type { return typeProgress }

func (f *Progress) appendPayload(b []byte) []byte {
	b = appendUint(b, uint64(len(f.Entries)))
	for _, e := range f.Entries {
		b = appendBytes(b, e.Key)
		b = appendUint(b, uint64(e.Step))
		b = appendUint(b, e.Seconds)
	}
	return b
}

func (f *Progress) parsePayload(d *decoder) {
	n := d.count(3)
	if n == 0 {
		return
	}
	f.Entries = make([]Advance, 0, n)
	for range n {
		e := Advance{Key: d.string(), Step: Step(d.uint()), Seconds: d.uint()}
		if d.err != nil {
			return
		}
		f.Entries = append(f.Entries, e)
	}
}

// LastStep is how far an object of the key will come. A ConfigMap does not run.
func LastStep(key string) Step {
	if r, _, _, _, ok := SplitKey(key); ok && r == ResourcePods {
		return StepRunning
	}
	return StepApplied
}
