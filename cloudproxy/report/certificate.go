package report

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// writeCertificate makes the PodCertificateRequest that an edge asks for. What
// kube-apiserver holds a kubelet to, it does not hold this proxy to: that the pod is the
// edge's, is no mirror and has such a source is looked at here, and what the request says
// beside that comes from the API and not from the edge. The name is that of the key, so a
// report that comes twice asks once.
func (r *Receiver) writeCertificate(ctx context.Context, node string, value []byte) error {
	var asked certificatesv1.PodCertificateRequest
	if err := asked.Unmarshal(value); err != nil {
		return &badReportError{fmt.Errorf("decode certificate request: %w", err)}
	}
	if asked.Namespace == "" || asked.Spec.PodName == "" || asked.Spec.PodUID == "" {
		return &badReportError{errors.New("certificate request without namespace, name or UID of the pod")}
	}
	name := wire.CertificateRequestName(asked.Spec.StubPKCS10Request)
	cached, known := r.cached(asked.Spec.PodUID)
	if slices.Contains(cached, name) || r.requests.recent(asked.Spec.PodUID, name) {
		return nil
	}
	if !known {
		return fmt.Errorf("requests of pod %s/%s that are there are not known: %w", asked.Namespace, asked.Spec.PodName, errAskAgain)
	}
	csr, key, err := parsePKCS10(asked.Spec.StubPKCS10Request)
	if err != nil {
		return &badReportError{err}
	}
	pod, err := r.ownPod(ctx, node, asked.Namespace, asked.Spec.PodName, asked.Spec.PodUID)
	if err != nil {
		return err
	}
	sources := certificateSources(pod)
	switch {
	case isMirror(pod, node):
		return fmt.Errorf("pod %s/%s is a mirror: %w", pod.Namespace, pod.Name, errForeign)
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return fmt.Errorf("pod %s/%s has finished: %w", pod.Namespace, pod.Name, errGone)
	case !asksFor(sources, &asked.Spec, key):
		return fmt.Errorf("pod %s/%s has no volume with such a certificate of signer %q: %w", pod.Namespace, pod.Name, asked.Spec.SignerName, errForeign)
	}
	if err := csr.CheckSignature(); err != nil {
		return &badReportError{fmt.Errorf("request for a certificate: %w", err)}
	}
	if !r.requests.enter(pod.UID, name, cached, requestsOnTop+requestsPerSource*len(sources)) {
		return fmt.Errorf("pod %s/%s has had all requests that it may have for now: %w", pod.Namespace, pod.Name, errAskAgain)
	}
	err = r.createCertificateRequest(ctx, node, pod, &asked.Spec)
	r.requests.leave(pod.UID, name, err)
	return err
}

// createCertificateRequest makes the request, in the words of the API.
func (r *Receiver) createCertificateRequest(ctx context.Context, node string, pod *corev1.Pod, asked *certificatesv1.PodCertificateRequestSpec) error {
	account, err := r.client.CoreV1().ServiceAccounts(pod.Namespace).Get(ctx, pod.Spec.ServiceAccountName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("service account %q of pod %s/%s is not there: %w", pod.Spec.ServiceAccountName, pod.Namespace, pod.Name, errAskAgain)
	}
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("get service account of pod %s/%s: %w: %w", pod.Namespace, pod.Name, errAskAgain, err)
	}
	if err != nil {
		return fmt.Errorf("get service account of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	own, err := r.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get node: %w", err)
	}
	req := certificateRequest(pod, account.UID, own.UID, asked)
	_, err = r.client.CertificatesV1().PodCertificateRequests(req.Namespace).Create(ctx, req, metav1.CreateOptions{})
	switch {
	case err == nil:
		r.log.Info("certificate requested", "edge", node, "namespace", pod.Namespace, "pod", pod.Name, "signer", req.Spec.SignerName, "request", req.Name)
	case apierrors.IsAlreadyExists(err):
		return nil
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		// The cluster does not serve them, or not any longer in this namespace, or a role, a
		// quota or a webhook has none made. That may last, and what is not acknowledged takes
		// the place of other pods' requests.
		return fmt.Errorf("create certificate request %s/%s: %w: %w", req.Namespace, req.Name, errAskAgain, err)
	default:
		err = fmt.Errorf("create certificate request %s/%s: %w", req.Namespace, req.Name, err)
	}
	return err
}

func certificateRequest(pod *corev1.Pod, account, node types.UID, asked *certificatesv1.PodCertificateRequestSpec) *certificatesv1.PodCertificateRequest {
	return &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: wire.CertificateRequestName(asked.StubPKCS10Request),
			Labels:          map[string]string{LabelEdge: "true"}, // by which they are watched
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}},
		},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: asked.SignerName, MaxExpirationSeconds: asked.MaxExpirationSeconds,
			UnverifiedUserAnnotations: asked.UnverifiedUserAnnotations,
			StubPKCS10Request:         asked.StubPKCS10Request,
			PodName:                   pod.Name, PodUID: pod.UID,
			ServiceAccountName: pod.Spec.ServiceAccountName, ServiceAccountUID: account,
			NodeName: types.NodeName(pod.Spec.NodeName), NodeUID: node,
		},
	}
}

// certificateSources lists what a pod projects of certificates.
func certificateSources(pod *corev1.Pod) []*corev1.PodCertificateProjection {
	var all []*corev1.PodCertificateProjection
	for _, v := range pod.Spec.Volumes {
		for i := 0; v.Projected != nil && i < len(v.Projected.Sources); i++ {
			if c := v.Projected.Sources[i].PodCertificate; c != nil {
				all = append(all, c)
			}
		}
	}
	return all
}

// asksFor says whether one of the sources wants just what is asked for.
func asksFor(sources []*corev1.PodCertificateProjection, asked *certificatesv1.PodCertificateRequestSpec, key string) bool {
	for _, s := range sources {
		life := s.MaxExpirationSeconds == nil && asked.MaxExpirationSeconds == nil ||
			s.MaxExpirationSeconds != nil && asked.MaxExpirationSeconds != nil && *s.MaxExpirationSeconds == *asked.MaxExpirationSeconds
		if life && s.SignerName == asked.SignerName && s.KeyType == key && maps.Equal(s.UserAnnotations, asked.UnverifiedUserAnnotations) {
			return true
		}
	}
	return false
}
