package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/cmd/skerry/install"
	"github.com/skerry-io/skerry/manifests"
)

const (
	// imageName is where releases are published; the version is the tag.
	imageName = "ghcr.io/skerry-io/cloudproxy"
	// firstNodePort is where Kubernetes' default range of node ports begins.
	firstNodePort = 30000
	tunnelPort    = "7443"
)

type initialize struct {
	cluster *cluster

	image       string
	advertise   []string
	nodeAddress string
	serviceType string
	nodePort    int32
	proxyArgs   []string

	print            bool
	timeout          time.Duration
	loadBalancerWait time.Duration
	skipAddressCheck bool
}

func newInit() *cobra.Command { return initCommand(&cluster{}) }

func initCommand(c *cluster) *cobra.Command { return initCommandFor(&initialize{cluster: c}) }

func initCommandFor(o *initialize) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Put the cloud proxy into a cluster, or upgrade it",
		Long: `Put the cloud proxy into a cluster, with all it needs: a namespace, its account and
rights, a Deployment, and Services, one for edges (UDP and TCP on one port) and one for
metrics. All it needs is a kubeconfig of an administrator.

Edges must reach the proxy, so it needs an address. Without --advertise-address, a
LoadBalancer's is waited for; where none comes, nodes' addresses with a node port are
taken. The address is then checked from here, by UDP and by TCP.

When all is well, it prints on standard output the command that joins the first
machine. A second run upgrades in place: what differs is changed by server-side apply,
and settings of the first run are kept unless flags say otherwise. Nodes and edges are
not touched. --print shows what would be applied, as YAML, and asks no cluster.`,
		Example: `  # with the current context of kubectl
  skerry init

  # a name of yours that leads to the Service
  skerry init --advertise-address edge.example.com:7443

  # the image from a registry of yours
  skerry init --image registry.example.com/skerry/cloudproxy:v0.1.0

  # look first
  skerry init --advertise-address edge.example.com:7443 --print`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	o.cluster.addFlags(f)
	f.StringSliceVar(&o.advertise, "advertise-address", nil, "`HOST[:PORT]` under which edges reach the proxy; the first is in join commands (repeatable)")
	f.StringVar(&o.nodeAddress, "node-address", "", "`IP[:PORT]` that kube-apiserver dials for edges; default the proxy's pod")
	f.StringVar(&o.serviceType, "service-type", "", "LoadBalancer, NodePort or ClusterIP; default what gives an address")
	f.Int32Var(&o.nodePort, "node-port", 0, "the node port, for UDP and TCP; default the cluster chooses")
	f.StringVar(&o.image, "image", "", "the proxy's image; default "+imageName+" of this version")
	f.StringArrayVar(&o.proxyArgs, "proxy-arg", nil, "a further `FLAG` of cloudproxy, such as --log-level=debug (repeatable)")
	f.BoolVar(&o.print, "print", false, "print the YAML and change nothing")
	f.DurationVar(&o.timeout, "timeout", 3*time.Minute, "how long the proxy may take to get ready, and its address to answer")
	f.DurationVar(&o.loadBalancerWait, "load-balancer-timeout", time.Minute, "how long a load balancer may take to give an address")
	f.BoolVar(&o.skipAddressCheck, "skip-address-check", false, "do not check the address from here, where edges' way to it is another")
	return cmd
}

// values are what flags say, over those of an earlier init or the defaults.
func (o *initialize) values(cmd *cobra.Command, base manifests.Values, again bool) (manifests.Values, error) {
	v := base
	if !again || strings.HasPrefix(v.Image, imageName+":") {
		v.Image = imageName + ":" + version
	}
	if o.image != "" {
		v.Image = o.image
	}
	if o.nodeAddress != "" {
		v.NodeAddress = o.nodeAddress
	}
	if cmd.Flags().Changed("proxy-arg") {
		v.ExtraArgs = o.proxyArgs
	}
	if o.serviceType != "" {
		v.Service.Type = corev1.ServiceType(o.serviceType)
	}
	if cmd.Flags().Changed("node-port") {
		v.Service.NodePort = o.nodePort
	}
	if len(o.advertise) == 0 {
		return v, nil
	}
	v.AdvertiseAddresses = nil
	for _, a := range o.advertise {
		if err := manifests.CheckAddress(a); err != nil {
			return v, badUsage(cmd, "--advertise-address: %w", err)
		}
		v.AdvertiseAddresses = append(v.AdvertiseAddresses, withTunnelPort(a))
	}
	// A port out of nodes' range tells what the Service has to have.
	_, port, err := net.SplitHostPort(v.AdvertiseAddresses[0])
	if n, perr := strconv.ParseInt(port, 10, 32); err == nil && perr == nil && n >= firstNodePort && n <= 32767 && v.Service.NodePort == 0 {
		v.Service.NodePort = int32(n)
		if o.serviceType == "" {
			v.Service.Type = corev1.ServiceTypeNodePort
		}
	}
	return v, nil
}

func withTunnelPort(s string) string {
	if _, _, err := net.SplitHostPort(s); err == nil {
		return s
	}
	return net.JoinHostPort(strings.Trim(s, "[]"), tunnelPort)
}

func (o *initialize) run(cmd *cobra.Command) error {
	defaults, err := manifests.DefaultValues()
	if err != nil {
		return err
	}
	if o.print {
		v, err := o.values(cmd, defaults, false)
		if err != nil {
			return err
		}
		if len(v.AdvertiseAddresses) == 0 {
			return badUsage(cmd, "--print asks no cluster: say --advertise-address HOST:PORT")
		}
		yaml, err := manifests.Render(o.cluster.namespace, v)
		if err != nil {
			return badUsage(cmd, "%w", err)
		}
		_, err = cmd.OutOrStdout().Write(yaml)
		return err
	}
	c, err := o.cluster.installer(func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) })
	if err != nil {
		return err
	}
	present, again, err := c.PresentValues(cmd.Context())
	if err != nil {
		return err
	}
	if !again {
		present = defaults
	}
	v, err := o.values(cmd, present, again)
	if err != nil {
		return err
	}
	if _, err := manifests.Render(c.Namespace, pending(v)); err != nil {
		return badUsage(cmd, "%w", err)
	}
	return o.install(cmd, c, v, again)
}

// pending stands for an address that is not known yet.
func pending(v manifests.Values) manifests.Values {
	if len(v.AdvertiseAddresses) == 0 {
		v.AdvertiseAddresses = []string{"pending.invalid"}
	}
	return v
}

// installer is the cluster as package install has it.
func (c *cluster) installer(say func(string)) (*install.Cluster, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	objects, err := c.dynamic()
	if err != nil {
		return nil, err
	}
	return &install.Cluster{Client: client, Dynamic: objects, Namespace: c.namespace, Say: say}, nil
}
