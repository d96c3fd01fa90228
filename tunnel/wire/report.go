package wire

import "strconv"

const typeReport Type = 8

// Subject says what a Report is about.
type Subject uint64

// Subjects of reports.
const (
	// SubjectNode carries a NodeStatus of this edge; Key is empty.
	SubjectNode Subject = 1
	// SubjectPod carries a Pod of which only metadata (namespace, name, uid) and
	// status count; Key is "pods/NS/NAME".
	SubjectPod Subject = 2
	// SubjectPodGone says that nothing of the pod is left at the edge, so that its
	// API object may go; Value is its UID.
	SubjectPodGone Subject = 3
	// SubjectEvent carries an Event with its original times.
	SubjectEvent Subject = 4
	// SubjectCertificate asks for a certificate for a pod. Value is a
	// certificatesv1.PodCertificateRequest of which metadata (namespace) and of its spec
	// the pod's name and UID, the PKCS#10 request and what the pod's volume says count:
	// signer, longest life and annotations. Key is "podcertificates/NS/POD/VOLUME/INDEX",
	// INDEX being that of the volume's source.
	SubjectCertificate Subject = 7
	// SubjectDevice carries a devices/v1alpha1.Device as JSON, of which only metadata
	// (namespace, name, uid) and status count; Key is "devices/NS/NAME".
	SubjectDevice Subject = 8
	// SubjectSamples carries a frame of samples (devices.AppendFrame); Key is
	// "devices/NS/NAME". Each is of its own: none takes the place of another.
	SubjectSamples Subject = 9
)

// CertificateKey gives the key of a SubjectCertificate.
func CertificateKey(namespace, pod, volume string, index int) string {
	return "podcertificates/" + namespace + "/" + pod + "/" + volume + "/" + strconv.Itoa(index)
}

// Report is one message from an edge's outbox. Reports of the same subject and
// key supersede one another, but for events.
type Report struct {
	// Seq is the place in the outbox: it rises for as long as the store lives,
	// over sessions and restarts.
	Seq     uint64
	Subject Subject
	Key     string
	Value   []byte
}

// Type implements Frame.
func (*Report) Type() Type { return typeReport }

func (f *Report) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Seq)
	b = appendUint(b, uint64(f.Subject))
	b = appendBytes(b, f.Key)
	return appendBytes(b, f.Value)
}

func (f *Report) parsePayload(d *decoder) {
	f.Seq = d.uint()
	f.Subject = Subject(d.uint())
	f.Key = d.string()
	f.Value = d.bytes()
}
