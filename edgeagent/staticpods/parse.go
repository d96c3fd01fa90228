package staticpods

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/skerry-io/skerry/edgeagent/pods"
)

// hashAnnotation is where the kubelet keeps the hash too.
const hashAnnotation = "kubernetes.io/config.hash"

// parse reads one pod and checks it. A key that no pod has is an error: it is
// most often a slip.
func parse(b []byte) (*corev1.Pod, error) {
	documents := 0
	for doc := range strings.SplitSeq("\n"+string(b), "\n---") {
		if strings.TrimSpace(doc) != "" {
			documents++
		}
	}
	if documents > 1 {
		return nil, errors.New("it holds more than one document; one file is one pod")
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(b, &pod); err != nil {
		return nil, plain(err)
	}
	if pod.APIVersion != "v1" || pod.Kind != "Pod" {
		return nil, fmt.Errorf("it is %q of %q, not Pod of v1", pod.Kind, pod.APIVersion)
	}
	if pod.Namespace == "" {
		pod.Namespace = corev1.NamespaceDefault
	}
	return &pod, check(&pod)
}

// plain takes the layers of the YAML library off an error, so that what is left
// names the key or the line.
func plain(err error) error {
	s := err.Error()
	for _, p := range []string{"error unmarshaling JSON: ", "while decoding JSON: ", "error converting YAML to JSON: ", "json: ", "yaml: "} {
		s = strings.TrimPrefix(s, p)
	}
	return errors.New(strings.Join(strings.Fields(s), " "))
}

// place makes what the file says a pod of this node. Another text is another UID,
// but comments and order count nothing.
func place(pod *corev1.Pod, node, file string, modified time.Time) (*corev1.Pod, error) {
	pod.Status = corev1.PodStatus{}
	pod.ObjectMeta = metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels, Annotations: pod.Annotations,
	}
	canon, err := json.Marshal(pod)
	if err != nil {
		return nil, fmt.Errorf("hash the pod: %w", err)
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(node), []byte(file), canon} {
		_, _ = fmt.Fprintf(h, "%d:", len(part))
		_, _ = h.Write(part)
	}
	uid := hex.EncodeToString(h.Sum(nil)[:16]) // as long as the kubelet's
	pod.UID = types.UID(uid)
	pod.Name += "-" + strings.ToLower(node)
	if err := checkName("metadata.name, with the node's name,", pod.Name); err != nil {
		return nil, err
	}
	pod.CreationTimestamp = metav1.NewTime(modified)
	pod.Annotations = withAnnotations(pod.Annotations, uid)
	pod.Spec.NodeName = node
	setDefaults(&pod.Spec)
	pod.Status.Phase = corev1.PodPending
	return pod, fit(pod)
}

// fit makes the pod small enough for a report. A copy that kubectl left in it tells
// nobody anything, and the UID is that of the whole.
func fit(pod *corev1.Pod) error {
	if pod.Size() > maxPod {
		delete(pod.Annotations, corev1.LastAppliedConfigAnnotation) // a map of ours
	}
	if n := pod.Size(); n > maxPod {
		return fmt.Errorf("it has %d bytes as a pod, at most %d can be reported to the cloud; keep long texts in files of their own", n, maxPod)
	}
	return nil
}

func withAnnotations(have map[string]string, uid string) map[string]string {
	out := map[string]string{pods.AnnotationSource: pods.SourceFile, hashAnnotation: uid}
	for k, v := range have {
		if _, ours := out[k]; !ours {
			out[k] = v
		}
	}
	return out
}
