package kubeletfront

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

// request is a target with what was found out about it.
type request struct {
	target
	user  user.Info
	start time.Time
	// remote is who is connected, client who asked kube-apiserver, where it says so.
	remote, client string
	// node is the edge that serves it; empty for none.
	node string
	// podUID is by what the edge knows the pod, for requests for one.
	podUID string
	// query and body are of requests for devices.
	query string
	body  []byte
}

// admit finds the edge of a request and authorizes it. Nobody learns whether a
// pod exists who could not have asked its node.
func (s *Server) admit(r *http.Request, req *request) error {
	ctx := r.Context()
	if req.kind == kindNode || req.kind == kindDevice {
		req.node = req.target.node
		return s.guard.authorize(ctx, req.user, req.target, req.node)
	}
	pod, err := s.cfg.Pods.Pod(req.namespace, req.pod)
	if err != nil {
		pod = nil
	}
	node := ""
	if pod != nil {
		node = pod.Spec.NodeName
	}
	if err := s.guard.authorize(ctx, req.user, req.target, node); err != nil {
		return err
	}
	if doubtful(pod, req.target) {
		if pod, err = s.livePod(ctx, req.target, pod); err != nil {
			return err
		}
		if pod.Spec.NodeName != node {
			if err := s.guard.authorize(ctx, req.user, req.target, pod.Spec.NodeName); err != nil {
				return err
			}
		}
	}
	return req.setPod(pod)
}

// doubtful tells whether the copy of a pod may be behind: it may have been
// replaced by one of its name, or have got what is asked for just now.
func doubtful(pod *corev1.Pod, t target) bool {
	return pod == nil || pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" ||
		t.uid != "" && string(pod.UID) != t.uid || !hasContainer(pod, t.container)
}

// livePod asks the API for a pod. When that can't be done, a copy must do.
func (s *Server) livePod(ctx context.Context, t target, known *corev1.Pod) (*corev1.Pod, error) {
	pod, err := s.cfg.Client.CoreV1().Pods(t.namespace).Get(ctx, t.pod, metav1.GetOptions{})
	switch {
	case err == nil:
		return pod, nil
	case apierrors.IsNotFound(err):
		return nil, podNotFound(t.pod)
	case known != nil:
		s.log.Warn("pod not confirmed", "namespace", t.namespace, "pod", t.pod, "error", err)
		return known, nil
	}
	return nil, &refusal{http.StatusServiceUnavailable, fmt.Sprintf("pod %q can't be looked up: %v", t.pod, err)}
}

// setPod checks that the pod is what the request is for.
func (req *request) setPod(pod *corev1.Pod) error {
	switch {
	case req.uid != "" && string(pod.UID) != req.uid:
		return podNotFound(req.pod)
	case pod.Spec.NodeName == "":
		return &refusal{http.StatusBadRequest, fmt.Sprintf("pod %s does not have a host assigned", req.pod)}
	case req.target.node != "" && req.target.node != pod.Spec.NodeName:
		// nodes/A/proxy gives no right to pods of B.
		return podNotFound(req.pod)
	case !hasContainer(pod, req.container):
		return &refusal{http.StatusBadRequest, fmt.Sprintf("container %s is not valid for pod %s", req.container, req.pod)}
	}
	req.node, req.podUID = pod.Spec.NodeName, edgeUID(pod)
	return nil
}

// confirm asks the API whether the pod is still the one that was meant, after
// its edge has said that it has no such pod. It reports whether req has changed.
func (s *Server) confirm(ctx context.Context, req *request) (bool, error) {
	pod, err := s.livePod(ctx, req.target, nil)
	if err != nil {
		return false, err
	}
	if edgeUID(pod) == req.podUID && pod.Spec.NodeName == req.node {
		return false, nil
	}
	if pod.Spec.NodeName != req.node {
		if err := s.guard.authorize(ctx, req.user, req.target, pod.Spec.NodeName); err != nil {
			return false, err
		}
	}
	return true, req.setPod(pod)
}

func podNotFound(name string) *refusal {
	return &refusal{http.StatusNotFound, fmt.Sprintf("pod %q not found", name)}
}

// hasContainer tells whether a pod has the container that a request names, if any.
func hasContainer(pod *corev1.Pod, name string) bool {
	if name == "" {
		return true
	}
	named := func(c corev1.Container) bool { return c.Name == name }
	return slices.ContainsFunc(pod.Spec.Containers, named) || slices.ContainsFunc(pod.Spec.InitContainers, named) ||
		slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == name })
}
