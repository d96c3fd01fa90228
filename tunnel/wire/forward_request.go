package wire

const typeForwardRequest Type = 32

// ForwardRequest connects to a TCP port inside a pod. What the connection's client
// has said may follow it without waiting for anything.
type ForwardRequest struct {
	Namespace, Pod string
	// UID is the pod's; an edge that runs another pod under the same name refuses.
	UID  string
	Port uint64
}

// Type implements Frame.
func (*ForwardRequest) Type() Type { return typeForwardRequest }

func (f *ForwardRequest) appendPayload(b []byte) []byte {
	b = appendBytes(b, f.Namespace)
	b = appendBytes(b, f.Pod)
	b = appendBytes(b, f.UID)
	return appendUint(b, f.Port)
}

func (f *ForwardRequest) parsePayload(d *decoder) {
	f.Namespace = d.string()
	f.Pod = d.string()
	f.UID = d.string()
	f.Port = d.uint()
}
