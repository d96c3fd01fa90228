package wire

const typeResend Type = 31

// Subjects of reports on static pods, which no cloud has asked for.
const (
	// SubjectStaticPod carries a Pod, metadata, spec and status, that runs from a file of
	// the edge; Key is "pods/NS/NAME". The cloud shows it as a mirror pod. Without a
	// value the pod is gone.
	SubjectStaticPod Subject = 5
	// SubjectStaticPods carries all static pods of the edge, a line "pods/NS/NAME UID"
	// each; Key is "static". The mirrors of others go.
	SubjectStaticPods Subject = 6
)

// Resend asks an edge for the report on the static pod under Key once more, or, when
// there is none, for the list of all. It goes from the cloud, on a report stream.
type Resend struct{ Key string }

// Type implements Frame.
func (*Resend) Type() Type { return typeResend }

func (f *Resend) appendPayload(b []byte) []byte { return appendBytes(b, f.Key) }

func (f *Resend) parsePayload(d *decoder) { f.Key = d.string() }
