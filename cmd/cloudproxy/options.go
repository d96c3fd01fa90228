package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/samples"
)

// options are the proxy's settings: what the flags and the file given with
// --config can say. A flag that is given wins over the file.
type options struct {
	Kubeconfig         string          `json:"kubeconfig,omitempty"`
	Namespace          string          `json:"namespace,omitempty"`
	Listen             string          `json:"listen,omitempty"`
	AdvertiseAddresses []string        `json:"advertiseAddresses,omitempty"`
	KubeletListen      string          `json:"kubeletListen,omitempty"`
	NodeAddress        string          `json:"nodeAddress,omitempty"`
	NodeAddressing     string          `json:"nodeAddressing,omitempty"`
	NodePorts          string          `json:"nodePorts,omitempty"`
	AdminListen        string          `json:"adminListen,omitempty"`
	Drain              metav1.Duration `json:"drain"`
	EdgeMetrics        bool            `json:"edgeMetrics,omitempty"`
	TolerationSeconds  int64           `json:"defaultTolerationSeconds,omitempty"`

	EdgeCertificateLifetime metav1.Duration `json:"edgeCertificateLifetime"`
	EdgeRenewalGrace        metav1.Duration `json:"edgeRenewalGrace"`

	MaxHandshakes   int                    `json:"maxHandshakes,omitempty"`
	MaxStreams      int                    `json:"maxStreams,omitempty"`
	MaxStreamMemory resource.QuantityValue `json:"maxStreamMemory"`
	MaxEdgeMemory   resource.QuantityValue `json:"maxEdgeMemory"`
	MaxMemory       resource.QuantityValue `json:"maxMemory"`
	MaxEdgeRate     resource.QuantityValue `json:"maxEdgeRate"`

	SamplesURL               string `json:"samplesURL,omitempty"`
	SamplesFormat            string `json:"samplesFormat,omitempty"`
	SamplesAuthorizationFile string `json:"samplesAuthorizationFile,omitempty"`

	LogLevel  string `json:"logLevel,omitempty"`
	LogFormat string `json:"logFormat,omitempty"`
}

func defaultOptions() options {
	return options{
		Namespace:     "skerry-system",
		Listen:        ":7443",
		KubeletListen: ":10250",
		AdminListen:   "127.0.0.1:7480",

		NodeAddressing: string(cloudproxy.AddressingAuto),
		NodePorts:      "20000-24999",

		Drain:         metav1.Duration{Duration: 25 * time.Second},
		MaxHandshakes: 256,
		MaxStreams:    256,
		SamplesFormat: string(samples.Line),
		LogLevel:      "info",
		LogFormat:     "text",

		EdgeCertificateLifetime: metav1.Duration{Duration: issuer.DefaultTTL},
		EdgeRenewalGrace:        metav1.Duration{Duration: enroll.DefaultGrace},

		MaxStreamMemory: quantity("1Mi"),
		MaxEdgeMemory:   quantity("32Mi"),
		MaxMemory:       quantity("4Gi"),
		MaxEdgeRate:     quantity("0"),
	}
}

func quantity(s string) resource.QuantityValue {
	return resource.QuantityValue{Quantity: resource.MustParse(s)}
}

// addFlags binds the options to flags, each with the field's present value as its default.
func (o *options) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig of the cluster; left out, the Pod's own ServiceAccount is used")
	f.StringVar(&o.Namespace, "namespace", o.Namespace, "namespace that holds the proxy's Secrets and ConfigMaps")
	f.StringVar(&o.Listen, "listen", o.Listen, "address for edges: QUIC on this UDP port, enrolment on the TCP port of the same number")
	f.StringSliceVar(&o.AdvertiseAddresses, "advertise-address", o.AdvertiseAddresses, "HOST[:PORT] under which edges reach this proxy; the first one is what `skerry token create` prints (repeatable)")
	f.StringVar(&o.KubeletListen, "kubelet-listen", o.KubeletListen, "address where kube-apiserver finds the kubelets of all edges")
	f.StringVar(&o.NodeAddress, "node-address", o.NodeAddress, "IP[:PORT] that the edges' Nodes carry, so that kube-apiserver dials this proxy")
	f.StringVar(&o.NodeAddressing, "node-addressing", o.NodeAddressing, "how kube-apiserver finds an edge at --node-address: shared is one port for all, as InternalIP and Hostname; ports is one of --node-ports for each; auto is shared, with a Hostname only where the cluster is k3s or RKE2")
	f.StringVar(&o.NodePorts, "node-ports", o.NodePorts, "FIRST-LAST, the ports of --node-addressing ports: nothing on the way may change them, and every proxy listens on them")
	f.StringVar(&o.AdminListen, "admin-listen", o.AdminListen, "address for /healthz, /readyz, /metrics and /edges")
	f.DurationVar(&o.Drain.Duration, "drain", o.Drain.Duration, "how long logs and commands may run on after SIGTERM, while edges go elsewhere; shorter than the Pod's terminationGracePeriodSeconds")
	f.BoolVar(&o.EdgeMetrics, "edge-metrics", o.EdgeMetrics, "add series for each edge to /metrics")
	f.Int64Var(&o.TolerationSeconds, "default-toleration-seconds", o.TolerationSeconds, "what kube-apiserver's --default-not-ready-toleration-seconds and --default-unreachable-toleration-seconds say, if not 300; edges' pods with that many are never evicted")
	f.DurationVar(&o.EdgeCertificateLifetime.Duration, "edge-certificate-lifetime", o.EdgeCertificateLifetime.Duration, "how long edges' certificates last; they are renewed after two thirds of it")
	f.DurationVar(&o.EdgeRenewalGrace.Duration, "edge-renewal-grace", o.EdgeRenewalGrace.Duration, "how long after its end an edge's certificate can still be renewed, by who has its key")
	f.IntVar(&o.MaxHandshakes, "max-handshakes", o.MaxHandshakes, "handshakes in flight, by UDP and by TCP each; more are refused")
	f.IntVar(&o.MaxStreams, "max-streams", o.MaxStreams, "streams that an edge may have open at once, at most 1000")
	f.Var(&o.MaxStreamMemory, "max-stream-memory", "most bytes that one direction of a stream may hold; up to four times as many, at most 4Mi, where packets carry it")
	f.Var(&o.MaxEdgeMemory, "max-edge-memory", "most bytes that all streams of an edge may hold; more streams are refused")
	f.Var(&o.MaxMemory, "max-memory", "most bytes that the streams of all edges may hold; more streams are refused")
	f.Var(&o.MaxEdgeRate, "max-edge-rate", "most bits per second of logs, copies and desired state that one edge is sent, such as 2M; 0 means as many as its link takes")
	f.StringVar(&o.SamplesURL, "samples-url", o.SamplesURL, "where the samples of devices are posted to, such as http://victoria:8428/write; left out, edges send none")
	f.StringVar(&o.SamplesFormat, "samples-format", o.SamplesFormat, "influx (line protocol) or json (an object a line)")
	f.StringVar(&o.SamplesAuthorizationFile, "samples-authorization-file", o.SamplesAuthorizationFile, "file with the value of the header Authorization for --samples-url")
	f.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error")
	f.StringVar(&o.LogFormat, "log-format", o.LogFormat, "text or json")
}

// loadFile puts what the file says under what the flags say: a field that a flag
// set stays as it is.
func (o *options) loadFile(path string, f *pflag.FlagSet) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--config: %w", err)
	}
	if err != nil {
		return fmt.Errorf("read --config: %w", err)
	}
	given := map[string]string{}
	lists := map[string][]string{}
	f.Visit(func(fl *pflag.Flag) {
		given[fl.Name] = fl.Value.String()
		if list, ok := fl.Value.(pflag.SliceValue); ok {
			lists[fl.Name] = slices.Clone(list.GetSlice()) // the file is read into the same array
		}
	})
	if err := yaml.UnmarshalStrict(b, o); err != nil {
		return fmt.Errorf("--config %s: %s", path, strings.Join(strings.Fields(err.Error()), " "))
	}
	for name, v := range given {
		if sv, ok := f.Lookup(name).Value.(pflag.SliceValue); ok {
			err = sv.Replace(lists[name])
		} else {
			err = f.Set(name, v)
		}
		if err != nil {
			return fmt.Errorf("--%s: %w", name, err)
		}
	}
	return nil
}
