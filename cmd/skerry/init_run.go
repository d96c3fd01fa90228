package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilversion "k8s.io/apimachinery/pkg/util/version"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cmd/skerry/install"
	"github.com/skerry-io/skerry/cmd/skerry/reach"
	"github.com/skerry-io/skerry/manifests"
)

// Versions of Kubernetes: with less the proxy lacks something it needs, and something
// that narrows its rights.
const (
	oldestCluster = "1.27"
	policyCluster = "1.30"
)

// install goes from the checks to the join command.
func (o *initialize) install(cmd *cobra.Command, c *install.Cluster, v manifests.Values, again bool) error {
	ctx := cmd.Context()
	if err := preflight(ctx, clusterChecks(c, &v), c.Say); err != nil {
		return err
	}
	objs, err := render(c.Namespace, v)
	if err != nil {
		return err
	}
	before, _, _ := install.Split(objs)
	if err := c.Apply(ctx, before); err != nil {
		return err
	}
	if err := o.findAddress(ctx, c, &v, again); err != nil {
		return err
	}
	if objs, err = render(c.Namespace, v); err != nil {
		return err
	}
	if err := install.KeepValues(objs, v); err != nil {
		return err
	}
	_, _, deployments := install.Split(objs)
	if err := c.Apply(ctx, deployments); err != nil {
		return err
	}
	if err := c.WaitReady(ctx, o.timeout); err != nil {
		return err
	}
	c.Say("ready     the cloud proxy, " + v.Image)
	if !o.skipAddressCheck {
		if err := o.checkAddress(ctx, c, v.AdvertiseAddresses[0]); err != nil {
			return err
		}
	}
	if again {
		c.Say("'skerry token create' prints a command that joins a machine; 'skerry status' shows those that have joined")
		return nil
	}
	c.Say("")
	c.Say("Run this as root on the machine that is to join, once, within 24 hours:")
	token := &tokenCreate{cluster: o.cluster, ttl: 24 * time.Hour, uses: 1, description: "made by skerry init"}
	return token.run(cmd)
}

func render(namespace string, v manifests.Values) ([]*unstructured.Unstructured, error) {
	yaml, err := manifests.Render(namespace, pending(v))
	if err != nil {
		return nil, err
	}
	return install.Objects(yaml)
}

// clusterChecks look at what an installation needs. What they find out goes into v.
func clusterChecks(c *install.Cluster, v *manifests.Values) []check {
	return []check{
		{"the cluster answers, and is Kubernetes " + oldestCluster + " or later", func(context.Context) (string, error) { return clusterVersion(c, v) }},
		{"you may install", func(ctx context.Context) (string, error) { return "", mayInstall(ctx, c) }},
		{"no other namespace holds a cloud proxy", func(ctx context.Context) (string, error) {
			other, err := c.Other(ctx)
			if err == nil && other != "" {
				err = fmt.Errorf("namespace %s does; upgrade that one with --namespace %s, or take it away with 'skerry uninstall --namespace %s'", other, other, other)
			}
			return "", err
		}},
		{"a node can run the proxy", func(ctx context.Context) (string, error) { return canRun(ctx, c, v) }},
	}
}

func clusterVersion(c *install.Cluster, v *manifests.Values) (string, error) {
	info, err := c.Client.Discovery().ServerVersion()
	if err != nil {
		return "", err
	}
	got, err := utilversion.ParseGeneric(info.GitVersion)
	switch {
	case err != nil:
		return "", warn("its version %q can't be read", info.GitVersion)
	case got.LessThan(utilversion.MustParseGeneric(oldestCluster)):
		return "", fmt.Errorf("it is %s", info.GitVersion)
	case got.LessThan(utilversion.MustParseGeneric(policyCluster)):
		v.PodPolicy = false
		return "", warn("it is %s, and the policies that narrow the proxy's rights need %s: they are left out", info.GitVersion, policyCluster)
	}
	v.PodPolicy = true
	return info.GitVersion, nil
}

// mayInstall: giving rights needs having them, and those of the proxy are many.
func mayInstall(ctx context.Context, c *install.Cluster) error {
	review, err := c.Client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "*", Group: "*", Resource: "*"},
		},
	}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return err
	case !review.Status.Allowed:
		return errors.New("the kubeconfig's user is no administrator (ClusterRole cluster-admin); use one that is, or hand the YAML of --print to somebody who is")
	}
	return nil
}

func canRun(ctx context.Context, c *install.Cluster, v *manifests.Values) (string, error) {
	hosts, err := c.Hosts(ctx)
	if err != nil {
		return "", err
	}
	tolerations, free := install.Tolerations(hosts)
	if len(v.Tolerations) == 0 {
		v.Tolerations = tolerations
	}
	switch {
	case free == 0:
		return "", warn("none is Ready, open for pods and no edge: the proxy's pod will wait for one")
	case len(tolerations) > 0:
		return "on control-plane nodes, as there are no others", nil
	}
	return fmt.Sprintf("%d can", free), nil
}

// findAddress brings the Services up and v.AdvertiseAddresses to where they lead.
func (o *initialize) findAddress(ctx context.Context, c *install.Cluster, v *manifests.Values, again bool) error {
	if again && o.serviceType == "" && len(o.advertise) == 0 {
		if s, there, err := c.PresentService(ctx); err != nil {
			return err
		} else if there && v.Service.NodePort == 0 {
			v.Service.Type = s.Type
		}
	}
	if err := applyServices(ctx, c, *v); err != nil {
		return err
	}
	if len(v.AdvertiseAddresses) > 0 {
		c.Say("address   " + strings.Join(v.AdvertiseAddresses, ", "))
		return nil
	}
	const step, next = "find the proxy's address", "skerry init --advertise-address HOST:PORT"
	switch v.Service.Type {
	case corev1.ServiceTypeLoadBalancer:
		host, err := c.LoadBalancerAddress(ctx, o.loadBalancerWait)
		if err == nil {
			v.AdvertiseAddresses = []string{net.JoinHostPort(host, tunnelPort)}
			c.Say("address   " + v.AdvertiseAddresses[0] + ", the load balancer's")
			return nil
		}
		if !install.NoLoadBalancer(err) || o.serviceType != "" {
			return &install.StepError{Step: step, Err: err, Next: next}
		}
		c.Say("none came: taking a node port")
		v.Service.Type = corev1.ServiceTypeNodePort
		if err := applyServices(ctx, c, *v); err != nil {
			return err
		}
	case corev1.ServiceTypeNodePort:
	default:
		return &install.StepError{Step: step, Err: fmt.Errorf("a Service of type %s has none that edges reach", v.Service.Type), Next: next}
	}
	addresses, external, err := c.NodePortAddresses(ctx)
	if err != nil {
		return &install.StepError{Step: step, Err: err, Next: next}
	}
	v.AdvertiseAddresses = addresses
	c.Say("address   " + strings.Join(addresses, ", ") + ", of nodes")
	if !external {
		c.Say("          these are internal: edges outside of the nodes' network need --advertise-address with one that leads there")
	}
	return nil
}

func applyServices(ctx context.Context, c *install.Cluster, v manifests.Values) error {
	objs, err := render(c.Namespace, v)
	if err != nil {
		return err
	}
	_, services, _ := install.Split(objs)
	return c.Apply(ctx, services)
}

// checkAddress asks the proxy the way an edge does, until it answers: what leads there
// may take a while to be set up.
func (o *initialize) checkAddress(ctx context.Context, c *install.Cluster, address string) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	hash, err := caHash(ctx, c)
	if err != nil {
		return err
	}
	told := false
	for {
		note, err := answersAt(ctx, address, hash.Matches)
		if err == nil {
			c.Say("reached   " + address + ", " + note)
			return nil
		}
		if !told {
			c.Say("waiting for an answer at " + address + ": " + err.Error())
			told = true
		}
		timer := time.NewTimer(2 * time.Second)
		select {
		case <-timer.C:
			continue
		case <-ctx.Done():
			timer.Stop()
		}
		return &install.StepError{
			Step: "check the address " + address, Err: err,
			Next: "open UDP and TCP on that port on the way (firewall, security group), then skerry doctor; or skerry init with another --advertise-address, or with --skip-address-check",
		}
	}
}

// caHash is what join commands pin.
func caHash(ctx context.Context, c *install.Cluster) (certs.CAHash, error) {
	info, err := enroll.ReadInfo(ctx, c.Client, c.Namespace)
	if apierrors.IsNotFound(err) {
		return certs.CAHash{}, fmt.Errorf("%w: the proxy writes it at its first start", err)
	}
	if err != nil {
		return certs.CAHash{}, err
	}
	return info.CAHash()
}

// answersAt asks by UDP and by TCP.
func answersAt(ctx context.Context, address string, trusted func(*x509.Certificate) bool) (string, error) {
	server, err := reach.TLS(ctx, address)
	if err != nil {
		return "", fmt.Errorf("TCP: %w", err)
	}
	if !shows(server, trusted) {
		return "", errors.New("TCP: another server answers there, without this cluster's CA")
	}
	path, err := reach.UDP(ctx, address)
	if err != nil {
		return "", fmt.Errorf("TCP works, UDP does not: %w", err)
	}
	return fmt.Sprintf("by TCP and UDP, %s away, packets up to %d bytes", path.RTT.Round(time.Millisecond/10), path.Payload), nil
}

// shows reports whether a server's chain has a CA that is trusted.
func shows(s reach.Server, trusted func(*x509.Certificate) bool) bool {
	return slices.ContainsFunc(s.Chain, trusted)
}
