package wire

import "fmt"

const typeAck Type = 7

// Step says how far an edge has come with a change.
type Step uint64

// Steps, in the order in which they come.
const (
	// StepStored means synced to disk: neither kill -9 nor power loss takes it away.
	StepStored Step = 1
	// StepApplied means that the runtime was told.
	StepApplied Step = 2
	// StepRunning means that the runtime has done it.
	StepRunning Step = 3
)

// String gives the step's name.
func (s Step) String() string {
	switch s {
	case StepStored:
		return "stored"
	case StepApplied:
		return "applied"
	case StepRunning:
		return "running"
	}
	return fmt.Sprintf("step-%d", uint64(s))
}

// Ack acknowledges every Upsert and Delete up to and including Seq.
type Ack struct {
	Seq  uint64
	Step Step
}

// Type implements Frame.
func (*Ack) Type() Type { return typeAck }

func (f *Ack) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Seq)
	return appendUint(b, uint64(f.Step))
}

func (f *Ack) parsePayload(d *decoder) {
	f.Seq = d.uint()
	f.Step = Step(d.uint())
}
