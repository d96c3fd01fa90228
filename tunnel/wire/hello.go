package wire

const typeHello Type = 1

// Hello is the first frame of a carrier, sent by the edge on its control lane. When
// a session goes on, Resume follows.
type Hello struct {
	// Versions are the protocol versions that the edge speaks, highest first.
	Versions []uint64
	// Incarnation is drawn at random when the agent starts.
	Incarnation [16]byte
	// Seq counts the sessions of this incarnation, so that of two sessions that
	// arrive out of order the cloud keeps the newer one.
	Seq uint64
	// AgentVersion is the agent's build, for people.
	AgentVersion string
	// OS and Arch are runtime.GOOS and runtime.GOARCH of the edge.
	OS, Arch string
	// Hostname is the machine's own name.
	Hostname string
	// Features are what the edge can do beyond the version's minimum.
	Features []string
	// Labels are what the operator wants on the Node, each "key=value".
	Labels []string
	// Session is the session that goes on, from its Welcome; zero begins a new one.
	Session [16]byte
	// Carrier is the number of this attempt to give the session another carrier: the
	// round, which counts, and in the low 8 bits the attempt within it.
	Carrier uint64
	// MaxStreams is how many streams the cloud may have open at once.
	MaxStreams uint64
	// Taints are what the operator wants on the Node when it is made. A cloud of before
	// the field makes it without.
	Taints []Taint
}

// Taint keeps pods from a Node that do not tolerate it, as in Kubernetes.
type Taint struct {
	Key, Value string // Value may be empty
	// Effect is NoSchedule, PreferNoSchedule or NoExecute.
	Effect string
}

// Resumes reports whether a session is to go on; Resume is the next frame then.
func (f *Hello) Resumes() bool { return f.Session != [16]byte{} }

// Type implements Frame.
func (*Hello) Type() Type { return typeHello }

func (f *Hello) appendPayload(b []byte) []byte {
	b = appendUint(b, uint64(len(f.Versions)))
	for _, v := range f.Versions {
		b = appendUint(b, v)
	}
	b = append(b, f.Incarnation[:]...)
	b = appendUint(b, f.Seq)
	b = appendBytes(b, f.AgentVersion)
	b = appendBytes(b, f.OS)
	b = appendBytes(b, f.Arch)
	b = appendBytes(b, f.Hostname)
	b = appendStrings(b, f.Features)
	b = appendStrings(b, f.Labels)
	b = append(b, f.Session[:]...)
	b = appendUint(b, f.Carrier)
	b = appendUint(b, f.MaxStreams)
	b = appendUint(b, uint64(len(f.Taints)))
	for _, t := range f.Taints {
		b = appendBytes(b, t.Key)
		b = appendBytes(b, t.Value)
		b = appendBytes(b, t.Effect)
	}
	return b
}

func (f *Hello) parsePayload(d *decoder) {
	for range d.count(1) {
		f.Versions = append(f.Versions, d.uint())
	}
	d.raw(f.Incarnation[:])
	f.Seq = d.uint()
	f.AgentVersion = d.string()
	f.OS = d.string()
	f.Arch = d.string()
	f.Hostname = d.string()
	f.Features = d.strings()
	f.Labels = d.strings()
	d.raw(f.Session[:])
	f.Carrier = d.uint()
	f.MaxStreams = d.uint()
	if len(d.b) == 0 {
		return // an edge of before the field
	}
	for range d.count(3) {
		f.Taints = append(f.Taints, Taint{Key: d.string(), Value: d.string(), Effect: d.string()})
		if d.err != nil {
			return
		}
	}
}
