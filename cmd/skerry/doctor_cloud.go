package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cmd/skerry/install"
)

// servingCondition is on edges' Nodes when the proxy has no serving certificate of the
// cluster's.
const servingCondition corev1.NodeConditionType = "ServingCertificateIssued"

// errUnlisted keeps checks of edges from calling well what they have not seen.
var errUnlisted = warn("edges could not be listed")

type cloudDoctor struct {
	*install.Cluster

	info   enroll.Info
	edges  []corev1.Node
	listed bool // else nothing is known of edges
}

func (e *ends) cloudChecks() ([]check, error) {
	c, err := e.cluster.installer(func(string) {})
	if err != nil {
		return nil, err
	}
	d := &cloudDoctor{Cluster: c}
	return []check{
		{"the cluster answers", func(context.Context) (string, error) {
			v, err := c.Client.Discovery().ServerVersion()
			if err != nil {
				return "", err
			}
			return v.GitVersion, nil
		}},
		{"the cloud proxy runs in namespace " + c.Namespace, d.runs},
		{"it has told its address and CA", d.told},
		{"kube-apiserver reaches its pod", d.reached},
		{"its address answers from here", d.address},
		{"edges can be listed", d.list},
		{"kube-apiserver can verify it", func(context.Context) (string, error) { return "", d.serving() }},
		{"edges are Ready", func(context.Context) (string, error) { return d.ready() }},
	}, nil
}

func (d *cloudDoctor) runs(ctx context.Context) (string, error) {
	image, err := d.Ready(ctx)
	switch {
	case errors.Is(err, install.ErrNoProxy):
		return "", fmt.Errorf("%w, or it runs outside of the cluster; 'skerry init' puts one there, --namespace names another namespace", err)
	case err != nil:
		return "", fmt.Errorf("%w; 'kubectl -n %s describe pods' and 'kubectl -n %s logs deployment/cloudproxy' tell more", err, d.Namespace, d.Namespace)
	}
	if tag := image[strings.LastIndexByte(image, ':')+1:]; strings.HasPrefix(image, imageName+":") && tag != version {
		return "", warn("%s runs, and this is skerry %s; 'skerry init' of the newer one upgrades", image, version)
	}
	return image, nil
}

func (d *cloudDoctor) told(ctx context.Context) (string, error) {
	info, err := enroll.ReadInfo(ctx, d.Client, d.Namespace)
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("%w: the proxy writes it at its first start, see the check above", err)
	}
	if err != nil {
		return "", err
	}
	d.info = info
	return info.Server, nil
}

// reached asks through kube-apiserver, whose proxy for Services dials the pod. That
// it wants to know who asks is an answer, too.
func (d *cloudDoctor) reached(ctx context.Context) (string, error) {
	raw := d.Client.CoreV1().RESTClient().Get().Namespace(d.Namespace).Resource("services").
		Name("https:cloudproxy-internal:kubelet").SubResource("proxy").Suffix("healthz").Do(ctx)
	var code int
	raw.StatusCode(&code)
	err := raw.Error()
	switch {
	case code == http.StatusOK, code == http.StatusUnauthorized, apierrors.IsUnauthorized(err), strings.Contains(fmt.Sprint(err), "Unauthorized"):
		return "", nil
	case apierrors.IsNotFound(err):
		return "", warn("there is no Service cloudproxy-internal to ask by")
	}
	return "", fmt.Errorf("%w; kubectl logs and exec will fail on edges: let the control plane reach pods on TCP port 10250, or name by 'skerry init --node-address IP:PORT' an address that it reaches", err)
}

func (d *cloudDoctor) address(ctx context.Context) (string, error) {
	if d.info.Server == "" {
		return "", warn("it is not known")
	}
	hash, err := d.info.CAHash()
	if err != nil {
		return "", err
	}
	note, err := answersAt(ctx, d.info.Server, hash.Matches)
	if err != nil {
		return "", fmt.Errorf("%s: %w; open UDP and TCP on that port on the way (firewall, security group, load balancer), or name another by 'skerry init --advertise-address'", d.info.Server, err)
	}
	return d.info.Server + ", " + note, nil
}

func (d *cloudDoctor) list(ctx context.Context) (string, error) {
	nodes, err := d.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "skerry.io/edge"})
	if err != nil {
		return "", err
	}
	d.edges, d.listed = nodes.Items, true
	return fmt.Sprintf("%d", len(d.edges)), nil
}

func (d *cloudDoctor) serving() error {
	if !d.listed {
		return errUnlisted
	}
	for i := range d.edges {
		for _, c := range d.edges[i].Status.Conditions {
			if c.Type == servingCondition && c.Status == corev1.ConditionFalse {
				return warn("%s; 'kubectl get csr' shows what waits, 'kubectl certificate approve NAME' approves it", c.Message)
			}
		}
	}
	return nil
}

func (d *cloudDoctor) ready() (string, error) {
	if !d.listed {
		return "", errUnlisted
	}
	var away []string
	for i := range d.edges {
		for _, c := range d.edges[i].Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				away = append(away, d.edges[i].Name+" ("+c.Message+")")
			}
		}
	}
	if len(away) == 0 {
		return "", nil
	}
	slices.Sort(away)
	const show = 5
	more := ""
	if len(away) > show {
		more = fmt.Sprintf(" and %d more", len(away)-show)
		away = away[:show]
	}
	return "", warn("not %s%s; 'skerry status EDGE' tells since when, 'sudo skerry doctor' on the edge why", strings.Join(away, ", "), more)
}
