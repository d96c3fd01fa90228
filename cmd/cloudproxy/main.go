// Cloudproxy is the cloud half of Skerry: edges keep their sessions to it, and
// kube-apiserver takes it for the kubelet of each of them.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skerry-io/skerry/cloudproxy"
	"github.com/skerry-io/skerry/cloudproxy/samples"
	"github.com/skerry-io/skerry/cmd/daemon"
)

var version = "dev" // set by the linker

func main() { os.Exit(daemon.Run(run)) }

func run(ctx context.Context) error { return command().ExecuteContext(ctx) }

func command() *cobra.Command {
	opts := defaultOptions()
	var file string
	cmd := &cobra.Command{
		Use:   "cloudproxy",
		Short: "Hold the sessions of edges and be their kubelet",
		Long: `Hold the sessions of edges and be their kubelet.

Edges reach the proxy at --listen under one of the --advertise-address names;
kube-apiserver reaches it at --node-address. Settings come from flags or from the
YAML file given with --config, whose keys are the flags' names in camelCase.`,
		Example: `  cloudproxy --kubeconfig ~/.kube/config --advertise-address proxy.example.com --node-address 10.0.0.5
  cloudproxy --config /etc/skerry/cloudproxy.yaml`,
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				if err := opts.loadFile(file, cmd.Flags()); err != nil {
					return err
				}
			}
			log, err := daemon.NewLogger(os.Stderr, opts.LogLevel, opts.LogFormat)
			if err != nil {
				return err
			}
			client, objects, err := newClient(opts.Kubeconfig)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), &opts, client, objects, log)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file with settings")
	opts.addFlags(cmd.Flags())
	return cmd
}

func serve(ctx context.Context, opts *options, client kubernetes.Interface, objects dynamic.Interface, log *slog.Logger) error {
	srv, err := cloudproxy.New(cloudproxy.Config{
		Client:        client,
		Dynamic:       objects,
		Namespace:     opts.Namespace,
		Listen:        opts.Listen,
		Advertise:     opts.AdvertiseAddresses,
		KubeletListen: opts.KubeletListen,
		NodeAddress:   opts.NodeAddress,
		AdminListen:   opts.AdminListen,

		NodeAddressing: cloudproxy.Addressing(opts.NodeAddressing),
		NodePorts:      opts.NodePorts,

		Drain:       opts.Drain.Duration,
		EdgeMetrics: opts.EdgeMetrics,

		Samples: samples.Config{URL: opts.SamplesURL, Format: samples.Format(opts.SamplesFormat), AuthorizationFile: opts.SamplesAuthorizationFile},

		TolerationSeconds: opts.TolerationSeconds,

		EdgeCertificateLifetime: opts.EdgeCertificateLifetime.Duration,
		EdgeRenewalGrace:        opts.EdgeRenewalGrace.Duration,

		Bounds: cloudproxy.Bounds{
			Handshakes: opts.MaxHandshakes, Streams: opts.MaxStreams, StreamMemory: opts.MaxStreamMemory.Value(),
			EdgeMemory: opts.MaxEdgeMemory.Value(), Memory: opts.MaxMemory.Value(), EdgeRate: opts.MaxEdgeRate.Value() / 8,
		},
		Version: version,
		Log:     log,
	})
	if err != nil {
		return err
	}
	return srv.Run(ctx)
}

// newClient connects to the cluster of the kubeconfig, or to the one that this
// process runs in.
func newClient(kubeconfig string) (kubernetes.Interface, dynamic.Interface, error) {
	var cfg *rest.Config
	var err error
	if kubeconfig == "" {
		cfg, err = rest.InClusterConfig()
		if err != nil {
			return nil, nil, fmt.Errorf("no --kubeconfig given, and this is not a Pod: %w", err)
		}
	} else if cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return nil, nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	cfg.UserAgent = "skerry-cloudproxy/" + version
	// The defaults, 5 requests a second, are meant for one controller; this one
	// writes for every edge. The API server's own fairness protects it.
	cfg.QPS, cfg.Burst = 200, 400
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client of the cluster: %w", err)
	}
	objects, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client of the cluster's own kinds: %w", err)
	}
	return client, objects, nil
}
