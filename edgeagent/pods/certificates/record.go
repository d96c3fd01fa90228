package certificates

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// record is what is kept for one source of a pod's volume, sealed.
type record struct {
	Namespace string    `json:"namespace"`
	Pod       string    `json:"pod"`
	UID       types.UID `json:"uid"`
	Volume    string    `json:"volume"`
	Source    int       `json:"source"` // index in the volume

	// What the pod wants.
	Signer      string            `json:"signer"`
	KeyType     string            `json:"keyType"`
	Seconds     *int32            `json:"seconds,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	// What it has: key and chain in PEM, until when, and when to ask for more. Without a
	// chain nothing was issued yet.
	Key       []byte    `json:"key,omitempty"`
	Chain     []byte    `json:"chain,omitempty"`
	RefreshAt time.Time `json:"refreshAt,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`

	// What was asked for and not answered.
	Next *request `json:"next,omitempty"`
}

// request is a key that is to be certified.
type request struct {
	Key []byte `json:"key"` // PEM
	DER []byte `json:"der"` // PKCS#10
}

// storePrefix is what the names of records in the store begin with.
const storePrefix = "podcertificates/"

// recordName names the record of a source. UIDs and names of volumes have no slash.
func recordName(pod types.UID, volume string, source int) string {
	return storePrefix + string(pod) + "/" + volume + "/" + strconv.Itoa(source)
}

func newRecord(pod *corev1.Pod, volume string, source int, want *corev1.PodCertificateProjection) record {
	return record{
		Namespace: pod.Namespace, Pod: pod.Name, UID: pod.UID, Volume: volume, Source: source,
		Signer: want.SignerName, KeyType: want.KeyType, Seconds: want.MaxExpirationSeconds, Annotations: want.UserAnnotations,
	}
}

func (r *record) name() string { return recordName(r.UID, r.Volume, r.Source) }

// answerName is the name of the PodCertificateRequest for what is asked.
func (r *record) answerName() string { return wire.CertificateRequestName(r.Next.DER) }

// question is what is asked, as wire.SubjectCertificate wants it.
func (r *record) question() *certificatesv1.PodCertificateRequest {
	return &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace},
		Spec: certificatesv1.PodCertificateRequestSpec{
			PodName: r.Pod, PodUID: r.UID, SignerName: r.Signer, MaxExpirationSeconds: r.Seconds,
			UnverifiedUserAnnotations: r.Annotations, StubPKCS10Request: r.Next.DER,
		},
	}
}

func (r *record) marshal() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode what is kept of a certificate: %w", err)
	}
	return b, nil
}

// unmarshal gives the record that is kept under name.
func unmarshal(name string, b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("decode what is kept of a certificate: %w", err)
	}
	if r.name() != name {
		return r, fmt.Errorf("what is kept as %s is %s", name, r.name())
	}
	return r, nil
}
