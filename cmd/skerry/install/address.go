package install

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/manifests"
)

const (
	poll = time.Second
	// maxNodeAddresses bounds how many nodes' addresses are advertised: each is a name
	// in the proxy's certificate, and one is enough to join by.
	maxNodeAddresses = 8
)

// errNoLoadBalancer means that nobody gave the Service an address.
var errNoLoadBalancer = errors.New("no load balancer has given the Service an address")

// LoadBalancerAddress waits for the address that a load balancer gives the Service.
func (c *Cluster) LoadBalancerAddress(ctx context.Context, patience time.Duration) (string, error) {
	deadline := time.After(patience)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for first := true; ; first = false {
		s, err := c.service(ctx)
		if err != nil {
			return "", err
		}
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.Hostname != "" {
				return in.Hostname, nil
			}
			if in.IP != "" {
				return in.IP, nil
			}
		}
		if first {
			c.Say(fmt.Sprintf("waiting up to %s for a load balancer to give Service %s an address", patience, proxyName))
		}
		select {
		case <-deadline:
			return "", errNoLoadBalancer
		case <-tick.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// NoLoadBalancer tells that error from others.
func NoLoadBalancer(err error) bool { return errors.Is(err, errNoLoadBalancer) }

// NodePortAddresses are nodes' addresses with the Service's node port, and whether
// they are external ones.
func (c *Cluster) NodePortAddresses(ctx context.Context) (addresses []string, external bool, err error) {
	s, err := c.service(ctx)
	if err != nil {
		return nil, false, err
	}
	port, err := onePort(s)
	if err != nil {
		return nil, false, err
	}
	nodes, err := c.Hosts(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, kind := range []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP} {
		for i := range nodes {
			for _, a := range nodes[i].Status.Addresses {
				if a.Type == kind && len(addresses) < maxNodeAddresses {
					addresses = append(addresses, net.JoinHostPort(a.Address, strconv.Itoa(int(port))))
				}
			}
		}
		if len(addresses) > 0 {
			return addresses, kind == corev1.NodeExternalIP, nil
		}
	}
	return nil, false, errors.New("no node that can run the proxy has an address")
}

// onePort is the node port that UDP and TCP share: an edge is told one number.
func onePort(s *corev1.Service) (int32, error) {
	var port int32
	for _, p := range s.Spec.Ports {
		switch {
		case p.NodePort == 0:
			return 0, fmt.Errorf("service %s has no node ports", s.Name)
		case port != 0 && port != p.NodePort:
			return 0, fmt.Errorf("the node ports of Service %s differ (%d and %d): say which one to use by --node-port", s.Name, port, p.NodePort)
		}
		port = p.NodePort
	}
	return port, nil
}

func (c *Cluster) service(ctx context.Context) (*corev1.Service, error) {
	s, err := c.Client.CoreV1().Services(c.Namespace).Get(ctx, proxyName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read Service: %w", err)
	}
	return s, nil
}

// PresentService gives what the Service of an earlier init says: its type and port.
func (c *Cluster) PresentService(ctx context.Context) (manifests.ServiceValues, bool, error) {
	s, err := c.service(ctx)
	if apierrors.IsNotFound(err) {
		return manifests.ServiceValues{}, false, nil
	}
	if err != nil {
		return manifests.ServiceValues{}, false, err
	}
	v := manifests.ServiceValues{Type: s.Spec.Type}
	if port, err := onePort(s); err == nil {
		v.NodePort = port
	}
	return v, true, nil
}

// Hosts are the nodes that can run the proxy.
func (c *Cluster) Hosts(ctx context.Context) ([]corev1.Node, error) {
	list, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "!skerry.io/edge,kubernetes.io/os=linux"})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var hosts []corev1.Node
	for i := range list.Items {
		n := &list.Items[i]
		ready := false
		for _, cond := range n.Status.Conditions {
			ready = ready || cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue
		}
		if ready && !n.Spec.Unschedulable {
			hosts = append(hosts, *n)
		}
	}
	return hosts, nil
}

// ControlPlaneTaint is what kubeadm puts on control-plane nodes.
const ControlPlaneTaint = "node-role.kubernetes.io/control-plane"

// Tolerations are what the proxy needs where all nodes are control-plane nodes; free
// is how many nodes take it with them.
func Tolerations(hosts []corev1.Node) (tolerations []corev1.Toleration, free int) {
	untainted, controlPlane := 0, 0
	for i := range hosts {
		own, others := false, false
		for _, t := range hosts[i].Spec.Taints {
			switch {
			case t.Effect == corev1.TaintEffectPreferNoSchedule:
			case t.Key == ControlPlaneTaint:
				own = true
			default:
				others = true
			}
		}
		switch {
		case others:
		case own:
			controlPlane++
		default:
			untainted++
		}
	}
	if untainted > 0 || controlPlane == 0 {
		return nil, untainted
	}
	return []corev1.Toleration{{Key: ControlPlaneTaint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, controlPlane
}
