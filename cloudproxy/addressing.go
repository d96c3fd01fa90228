package cloudproxy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"

	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
	"github.com/skerry-io/skerry/cloudproxy/ports"
	"github.com/skerry-io/skerry/cloudproxy/servingcert"
)

// Addressing is how kube-apiserver finds an edge.
type Addressing string

const (
	// AddressingAuto is AddressingShared with what the cluster needs: k3s and RKE2
	// take an InternalIP for a way through their own tunnel, so there the address is
	// a Hostname only.
	AddressingAuto Addressing = "auto"
	// AddressingShared is one address and port for all edges, as InternalIP and
	// Hostname, whatever the cluster is.
	AddressingShared Addressing = "shared"
	// AddressingPorts is one address with a port for each edge, and as to the
	// address what AddressingAuto does.
	AddressingPorts Addressing = "ports"
)

const defaultNodePorts = "20000-24999"

// nodePorts checks how edges are found, and gives the range of their ports.
func (c *Config) nodePorts() (ports.Range, error) {
	switch c.NodeAddressing {
	case "":
		c.NodeAddressing = AddressingAuto
	case AddressingAuto, AddressingShared, AddressingPorts:
	default:
		return ports.Range{}, &ConfigError{"node-addressing", fmt.Sprintf("%q is none of auto, shared and ports", c.NodeAddressing)}
	}
	if c.NodePorts == "" {
		c.NodePorts = defaultNodePorts
	}
	r, err := ports.ParseRange(c.NodePorts)
	if err != nil {
		return r, &ConfigError{"node-ports", err.Error()}
	}
	if c.NodeAddressing != AddressingPorts {
		return ports.Range{}, nil
	}
	return r, nil
}

// webSockets is the feature of nodes to which kube-apiserver passes WebSockets on
// as they come. Others get them translated to SPDY.
const webSockets = "ExtendWebSocketsToKubelet"

// learnCluster sets what the Nodes of edges say, as it fits the cluster.
func (s *Server) learnCluster(cluster discovery.ServerVersionInterface) error {
	v, err := cluster.ServerVersion()
	if err != nil {
		return fmt.Errorf("ask for the cluster's version: %w", err)
	}
	ip := s.addr.node.Addr().String()
	s.nodeAddresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}, {Type: corev1.NodeHostName, Address: ip}}
	if s.cfg.NodeAddressing != AddressingShared && hasOwnTunnel(v.GitVersion) {
		s.log.Info("nodes of edges get a Hostname and no InternalIP, which this cluster takes for a way through its own tunnel", "version", v.GitVersion)
		s.nodeAddresses = s.nodeAddresses[1:]
	}
	s.nodeFeatures = nodeFeatures(v.GitVersion)
	return nil
}

// nodeFeatures are those that a cluster of this version understands.
func nodeFeatures(cluster string) []string {
	v, err := version.ParseGeneric(cluster)
	if err != nil || v.LessThan(version.MajorMinor(1, 36)) {
		return nil
	}
	return []string{webSockets}
}

// hasOwnTunnel tells k3s and RKE2 by their version, such as v1.37.2+k3s1.
func hasOwnTunnel(version string) bool {
	_, build, _ := strings.Cut(version, "+")
	return slices.ContainsFunc([]string{"k3s", "rke2"}, func(name string) bool { return strings.HasPrefix(build, name) })
}

// door is what kube-apiserver meets before it meets an edge.
type door struct {
	serving *servingcert.Keeper
	// ports and port are nil where nodes have no ports of their own.
	ports kubeletfront.Ports
	port  func(ctx context.Context, node string) (int32, error)
	run   []func(context.Context) error
}

func (s *Server) newDoor() (*door, error) {
	serving, err := servingcert.New(servingcert.Config{
		Client: s.cfg.Client, Namespace: s.cfg.Namespace, Names: []string{s.addr.node.Addr().String()},
		Fallback: s.enroll.GetCertificate, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	d := &door{serving: serving, run: []func(context.Context) error{serving.Run}}
	if s.cfg.NodeAddressing == AddressingPorts {
		p, err := ports.New(ports.Config{Client: s.cfg.Client, Namespace: s.cfg.Namespace, Range: s.addr.ports, Log: s.log})
		if err != nil {
			return nil, err
		}
		d.ports, d.port, d.run = p, p.Port, append(d.run, p.Run)
	}
	return d, nil
}
