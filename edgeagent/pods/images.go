package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/images"
)

// Errors of runtimes that begin with these words have a reason of their own.
const (
	registryUnavailable = "RegistryUnavailable"
	signatureInvalid    = "SignatureValidationFailed"
)

// imageWanted is an image that a container needs: its own, or one that it mounts.
type imageWanted struct {
	container string // that the events are about; empty means the pod
	image     string
	policy    corev1.PullPolicy
}

// ensureImage makes an image present, by its pull policy, and returns it with the
// reference to create the container from.
func (e *env) ensureImage(ctx context.Context, s *snapshot, want imageWanted, sandbox *cri.SandboxConfig) (cri.Image, string, *startError) {
	name, err := images.WithTag(want.image)
	if err != nil {
		return cri.Image{}, "", fail(reasonImageName, "InspectFailed", fmt.Errorf("Failed to apply default image tag %q: %w", want.image, err)) //nolint:staticcheck // the kubelet's words
	}
	policy := pullPolicy(want)
	if policy != corev1.PullAlways {
		image, failed := e.presentImage(ctx, s, want, name, policy)
		if failed != nil || image != nil {
			return valueOf(image), valueOf(image).ID, failed
		}
	}
	ref, failed := e.pull(ctx, s.pod, want, name, sandbox)
	if failed != nil {
		return cri.Image{}, "", failed
	}
	image, err := e.cri.ImageStatus(ctx, ref)
	if err != nil {
		return cri.Image{}, "", inspectFailed(want, err)
	}
	return image, ref, nil
}

func valueOf(image *cri.Image) cri.Image {
	if image == nil {
		return cri.Image{}
	}
	return *image
}

func inspectFailed(want imageWanted, err error) *startError {
	return fail(reasonImageInspect, "InspectFailed", fmt.Errorf("Failed to inspect image %q: %w", want.image, err)) //nolint:staticcheck // the kubelet's words
}

// presentImage looks for an image on the machine; nil means that it is to be pulled.
func (e *env) presentImage(ctx context.Context, s *snapshot, want imageWanted, name string, policy corev1.PullPolicy) (*cri.Image, *startError) {
	image, err := e.cri.ImageStatus(ctx, name)
	switch {
	case err == nil:
		e.event(s.pod, want.container, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine", want.image))
		return &image, nil
	case !errors.Is(err, cri.ErrNotFound):
		return nil, inspectFailed(want, err)
	case policy == corev1.PullNever:
		return nil, fail(reasonImageNever, reasonImageNever, fmt.Errorf("Container image %q is not present with pull policy of Never", want.image))
	}
	return nil, nil
}

// pull fetches an image. Few pulls run at a time: on a thin line two pulls only
// delay the first of two pods.
func (e *env) pull(ctx context.Context, pod *corev1.Pod, want imageWanted, name string, sandbox *cri.SandboxConfig) (string, *startError) {
	began := time.Now()
	e.starts.settle(pod.UID) // this may last: others need not wait for it
	e.event(pod, want.container, corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", want.image))
	done, err := e.pulls.take(ctx, priority(pod))
	if err != nil {
		return "", pullFailed(want, err)
	}
	defer done()
	pulling := time.Now()
	ref, err := e.pullWith(ctx, name, e.credentials(ctx, pod, want, name), sandbox)
	if err != nil {
		return "", pullFailed(want, err)
	}
	var size uint64
	if image, err := e.cri.ImageStatus(ctx, ref); err == nil {
		size = image.SizeBytes
	}
	e.event(pod, want.container, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.",
		want.image, time.Since(pulling).Truncate(time.Millisecond), time.Since(began).Truncate(time.Millisecond), size))
	return ref, nil
}

// pullWith tries the credentials one after another. Only where there are none the
// pull goes without: a registry may count what is anonymous.
func (e *env) pullWith(ctx context.Context, name string, auths []*cri.Auth, sandbox *cri.SandboxConfig) (string, error) {
	if len(auths) == 0 {
		auths = []*cri.Auth{nil}
	}
	var said []string
	var errs []error
	for _, auth := range auths {
		ref, err := e.cri.PullImage(ctx, name, auth, sandbox)
		if err == nil {
			return ref, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if text := runtimeText(err); !slices.Contains(said, text) {
			said, errs = append(said, text), append(errs, err)
		}
	}
	if len(errs) == 1 {
		return "", errs[0]
	}
	return "", &cri.RuntimeError{Text: "[" + strings.Join(said, ", ") + "]"}
}

// pullFailed is a pull that failed, in the kubelet's words.
func pullFailed(want imageWanted, err error) *startError {
	text := runtimeText(err)
	f := fail(reasonErrImagePull, "Failed", err)
	f.told = fmt.Sprintf("Failed to pull image %q: %s", want.image, text)
	for reason, why := range map[string]string{registryUnavailable: "the registry is unavailable", signatureInvalid: "the signature validation failed"} {
		if detail, ok := strings.CutPrefix(text, reason); ok {
			f.reason = reason
			f.err = fmt.Errorf("image pull failed for %s because %s%s", want.image, why, detail)
		}
	}
	return f
}

// runtimeText is what the runtime said, without what we put before it.
func runtimeText(err error) string {
	if rt, ok := errors.AsType[*cri.RuntimeError](err); ok {
		return rt.Text
	}
	return err.Error()
}

// backsOff says whether a start that failed for this reason is tried again after
// pauses that grow.
func backsOff(reason string) bool {
	return reason == reasonErrImagePull || reason == registryUnavailable || reason == signatureInvalid
}

// lacksImage says whether a start failed for want of its image.
func lacksImage(reason string) bool {
	return backsOff(reason) || reason == reasonImageNever || reason == reasonImageInspect
}

// pullPolicy is the container's, or the API's default.
func pullPolicy(want imageWanted) corev1.PullPolicy {
	if want.policy != "" {
		return want.policy
	}
	if name, err := images.ParseName(want.image); err == nil && name.Tag == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// credentials are what the pod and the node have for an image's registry. What is
// missing or malformed is passed over, as by the kubelet: the pull may work without.
func (e *env) credentials(ctx context.Context, pod *corev1.Pod, want imageWanted, name string) []*cri.Auth {
	var secrets []*corev1.Secret
	var missing []string
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue // what old versions of the API let through
		}
		s, err := e.Objects.Secret(pod.Namespace, ref.Name)
		if err != nil {
			missing = append(missing, ref.Name)
			continue
		}
		secrets = append(secrets, s)
	}
	if len(missing) > 0 {
		e.event(pod, want.container, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", fmt.Sprintf(
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", ")))
	}
	auths, err := e.Keyring.Lookup(ctx, name, secrets)
	if err != nil {
		e.Log.Warn("credentials for an image not usable", "pod", pod.Name, "namespace", pod.Namespace, "image", name, "error", err)
	}
	return auths
}

// ImagesChanged says that images have come by another way than by a pull.
func (m *Manager) ImagesChanged() {
	m.each((*worker).imagesChanged)
}

// Images names the images of the pods that are to run here, those that volumes
// show too. It returns false while not all pods are known.
func (m *Manager) Images() ([]string, bool) {
	var out []string
	known := m.hasBegun()
	m.each(func(w *worker) {
		v := w.snapshotView()
		if v.pod == nil {
			known = known && v.gone // one that has just come was not read yet
			return
		}
		if v.gone || v.status != nil && terminal(v.status.Phase) {
			return
		}
		out = append(out, imagesOf(v.pod)...)
	})
	return out, known
}

func imagesOf(pod *corev1.Pod) []string {
	var out []string
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			out = append(out, list[i].Image)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		out = append(out, pod.Spec.EphemeralContainers[i].Image)
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil {
			out = append(out, v.Reference)
		}
	}
	return out
}
