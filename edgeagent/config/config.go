// Package config is the edge agent's configuration file, edgeagent.yaml: what
// `skerry join` writes and the agent reads.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// What the file says of itself.
const (
	APIVersion = "skerry.io/v1alpha1"
	Kind       = "EdgeAgentConfig"
)

// Values of OtherUplinks and Packets, and of CgroupDriver.
const (
	Auto  = "auto"
	Never = "never"

	Systemd  = "systemd"
	Cgroupfs = "cgroupfs"
)

// DefaultFile is where the agent looks for its configuration.
const DefaultFile = "/etc/skerry/edgeagent.yaml"

// Config is the agent's configuration. Fields left out take the value that
// Default gives.
type Config struct {
	// APIVersion and Kind must be those of this package.
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Server is the cloud proxy, HOST:PORT.
	Server string `json:"server"`
	// NodeName is this edge's name in the cluster. The certificate decides; this
	// must agree with it.
	NodeName string `json:"nodeName"`
	// OtherUplinks says whether other devices than the one that the routing table
	// chooses carry the session to the cloud while that one seems dead: auto, all that
	// have a default route; never, where only a VPN's device may.
	OtherUplinks string `json:"otherUplinks,omitempty"`
	// Packets says whether logs, copies and reports may travel in packets beside QUIC's
	// streams, as fast as links allow that lose packets: auto, where both sides can; or
	// never.
	Packets string `json:"packets,omitempty"`
	// MaxRate is how many bits of them the agent sends in a second, as a Kubernetes
	// quantity such as 2M; empty means as many as the link takes. What people type is not
	// bounded.
	MaxRate string `json:"maxRate,omitempty"`
	// StateDir holds the store and the pods' volumes.
	StateDir string `json:"stateDir,omitempty"`
	// CertDir holds ca.crt, edge.crt and edge.key.
	CertDir string `json:"certDir,omitempty"`
	// CRISocket is the container runtime, as unix:///path.
	CRISocket string `json:"criSocket,omitempty"`
	// PodLogsDir is where containers' logs are written.
	PodLogsDir string `json:"podLogsDir,omitempty"`
	// StaticPodPath is a folder with a pod in each file, which run with no cloud;
	// empty means none.
	StaticPodPath string `json:"staticPodPath,omitempty"`
	// CgroupRoot is the cgroup under which pods live, and nothing else does.
	CgroupRoot string `json:"cgroupRoot,omitempty"`
	// CgroupDriver is who makes control groups: auto, who does for the runtime; systemd
	// or cgroupfs for a runtime that does not tell.
	CgroupDriver string `json:"cgroupDriver,omitempty"`
	// Labels go onto the Node object.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints go onto the Node when it is made, and are not put back when somebody takes
	// them away; each is as ParseTaint reads it.
	Taints []string `json:"taints,omitempty"`
	NodeResources
	// ClusterDNS are the name servers of pods with dnsPolicy ClusterFirst; none
	// means that such pods get the machine's own.
	ClusterDNS []string `json:"clusterDNS,omitempty"`
	// ClusterDomain is the cluster's DNS domain.
	ClusterDomain string `json:"clusterDomain,omitempty"`
	// ContainerLogMaxSize is how large a container's log may grow before it is rotated,
	// as a Kubernetes quantity; negative means without bound.
	ContainerLogMaxSize string `json:"containerLogMaxSize,omitempty"`
	// ContainerLogMaxFiles is how many files a container's log may have, from 2.
	ContainerLogMaxFiles int `json:"containerLogMaxFiles,omitempty"`
	// ImageGCHighThresholdPercent is how full the disk of images may be before unused
	// ones are removed, ImageGCLowThresholdPercent how full it is then. 100 means never.
	ImageGCHighThresholdPercent int `json:"imageGCHighThresholdPercent,omitempty"`
	ImageGCLowThresholdPercent  int `json:"imageGCLowThresholdPercent,omitempty"`
	// ImageMinimumGCAge is how long an image stays after it has come,
	// ImageMaximumGCAge how long it may be unused whatever the disk has; 0s means for
	// ever.
	ImageMinimumGCAge metav1.Duration `json:"imageMinimumGCAge,omitzero"`
	ImageMaximumGCAge metav1.Duration `json:"imageMaximumGCAge,omitzero"`
	// MaxParallelImagePulls is how many images are pulled at a time; 1 means one after
	// another.
	MaxParallelImagePulls int `json:"maxParallelImagePulls,omitempty"`
	// ImageCredentialProviderConfig is a kubelet's CredentialProviderConfig, or a folder
	// of them; empty means none. ImageCredentialProviderBinDir has the plugins.
	ImageCredentialProviderConfig string `json:"imageCredentialProviderConfig,omitempty"`
	ImageCredentialProviderBinDir string `json:"imageCredentialProviderBinDir,omitempty"`
	// ImageDir is a folder with image archives that are imported, for machines without
	// a registry; empty means images below StateDir.
	ImageDir string `json:"imageDir,omitempty"`
	// Bus is the local bus of devices.
	Bus Bus `json:"bus,omitzero"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `json:"logLevel,omitempty"`
	// LogFormat is text or json.
	LogFormat string `json:"logFormat,omitempty"`
}

// Error says which field of the configuration breaks which rule.
type Error struct {
	Field, Reason string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Reason) }

// Default gives the values of fields that the file leaves out.
func Default() Config {
	return Config{
		APIVersion:    APIVersion,
		Kind:          Kind,
		OtherUplinks:  Auto,
		Packets:       Auto,
		StateDir:      "/var/lib/skerry",
		CertDir:       "/etc/skerry/pki",
		CRISocket:     "unix:///run/containerd/containerd.sock",
		PodLogsDir:    "/var/log/pods",
		StaticPodPath: "/etc/skerry/manifests",
		CgroupRoot:    "/skerry",
		CgroupDriver:  Auto,
		ClusterDomain: "cluster.local",
		LogLevel:      "info",
		LogFormat:     "text",

		ContainerLogMaxSize:         "10Mi",
		ContainerLogMaxFiles:        5,
		ImageGCHighThresholdPercent: 85,
		ImageGCLowThresholdPercent:  80,
		ImageMinimumGCAge:           metav1.Duration{Duration: 2 * time.Minute},
		MaxParallelImagePulls:       2,
	}
}

// Load reads the file at path. The result still has to pass Validate: flags may
// fill in what the file lacks.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%w: run `skerry join` first, or name another file with --config", err)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse reads YAML over the defaults. A key that it does not know is an error.
func Parse(b []byte) (Config, error) {
	c := Default()
	c.APIVersion, c.Kind = "", ""
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return Config{}, plainYAMLError(err)
	}
	if c.APIVersion != APIVersion || c.Kind != Kind {
		return Config{}, &Error{"apiVersion, kind", fmt.Sprintf("want %s and %s, got %q and %q", APIVersion, Kind, c.APIVersion, c.Kind)}
	}
	return c, nil
}

// plainYAMLError takes the layers of the YAML library off an error, so that
// what is left names the key or the line.
func plainYAMLError(err error) error {
	s := err.Error()
	for _, p := range []string{"error unmarshaling JSON: ", "while decoding JSON: ", "error converting YAML to JSON: ", "json: ", "yaml: ", "unmarshal errors:"} {
		s = strings.TrimPrefix(s, p)
	}
	return errors.New(strings.Join(strings.Fields(s), " "))
}

// Validate checks every field.
func (c *Config) Validate() error {
	if err := validateServer(c.Server); err != nil {
		return err
	}
	if c.NodeName == "" {
		return &Error{"nodeName", "is missing"}
	}
	if msgs := validation.IsDNS1123Subdomain(c.NodeName); len(msgs) > 0 {
		return &Error{"nodeName", strings.Join(msgs, "; ")}
	}
	if c.OtherUplinks != Auto && c.OtherUplinks != Never {
		return &Error{"otherUplinks", fmt.Sprintf("%q is neither %s nor %s", c.OtherUplinks, Auto, Never)}
	}
	if c.Packets != Auto && c.Packets != Never {
		return &Error{"packets", fmt.Sprintf("%q is neither %s nor %s", c.Packets, Auto, Never)}
	}
	if _, err := c.BytesPerSecond(); err != nil {
		return err
	}
	for _, d := range []struct{ field, path string }{
		{"stateDir", c.StateDir}, {"certDir", c.CertDir}, {"podLogsDir", c.PodLogsDir}, {"cgroupRoot", c.CgroupRoot},
	} {
		if !filepath.IsAbs(d.path) {
			return &Error{d.field, fmt.Sprintf("%q is not an absolute path", d.path)}
		}
	}
	if filepath.Clean(c.CgroupRoot) == "/" {
		return &Error{"cgroupRoot", "is that of the whole machine, must be one below it such as " + Default().CgroupRoot}
	}
	if !slices.Contains([]string{Auto, Systemd, Cgroupfs}, c.CgroupDriver) {
		return &Error{"cgroupDriver", fmt.Sprintf("%q is none of %s, %s and %s", c.CgroupDriver, Auto, Systemd, Cgroupfs)}
	}
	if c.StaticPodPath != "" && !filepath.IsAbs(c.StaticPodPath) {
		return &Error{"staticPodPath", fmt.Sprintf("%q is not an absolute path", c.StaticPodPath)}
	}
	if p, ok := strings.CutPrefix(c.CRISocket, "unix://"); !ok || !filepath.IsAbs(p) {
		return &Error{"criSocket", fmt.Sprintf("%q is not of the form unix:///path", c.CRISocket)}
	}
	if err := c.validateClaims(); err != nil {
		return err
	}
	if err := c.validateResources(); err != nil {
		return err
	}
	for _, s := range c.ClusterDNS {
		if _, err := netip.ParseAddr(s); err != nil {
			return &Error{"clusterDNS", fmt.Sprintf("%q is not an IP address", s)}
		}
	}
	if err := c.Bus.validate(); err != nil {
		return err
	}
	return c.validateStorage()
}

func validateServer(s string) error {
	if s == "" {
		return &Error{"server", "is missing; it is the cloud proxy's HOST:PORT"}
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return &Error{"server", fmt.Sprintf("%q is not of the form HOST:PORT", s)}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return &Error{"server", fmt.Sprintf("port %q is not a number from 1 to 65535", port)}
	}
	return nil
}

// Marshal gives the file's text. What is as Default says is left out, so that a
// later version's defaults count.
func (c *Config) Marshal() ([]byte, error) {
	short, def := *c, Default()
	for _, f := range []struct{ of, def *string }{
		{&short.OtherUplinks, &def.OtherUplinks},
		{&short.Packets, &def.Packets},
		{&short.StateDir, &def.StateDir},
		{&short.CertDir, &def.CertDir},
		{&short.CRISocket, &def.CRISocket},
		{&short.PodLogsDir, &def.PodLogsDir},
		{&short.StaticPodPath, &def.StaticPodPath},
		{&short.CgroupRoot, &def.CgroupRoot},
		{&short.CgroupDriver, &def.CgroupDriver},
		{&short.ClusterDomain, &def.ClusterDomain},
		{&short.ContainerLogMaxSize, &def.ContainerLogMaxSize},
		{&short.LogLevel, &def.LogLevel},
		{&short.LogFormat, &def.LogFormat},
	} {
		if *f.of == *f.def {
			*f.of = ""
		}
	}
	short.withoutStorageDefaults(&def)
	b, err := yaml.Marshal(&short)
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return append([]byte("# Written by `skerry join`. The agent reads it when it starts.\n"), b...), nil
}
