package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// SandboxImage is the image that the runtime makes every sandbox from. It is empty
// where the runtime does not tell: such runtimes mark that image as pinned.
func (c *Client) SandboxImage(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	shown, err := c.configuration(ctx)
	return shown.SandboxImage, err
}

// Setup is how a runtime is set up to work. What it does not tell is empty.
type Setup struct {
	// CNIConf is where it looks for the configuration of the pods' network, CNIBin for
	// the plugins. CRI-O does not tell.
	CNIConf string
	CNIBin  []string
	// CgroupDriver is as [Client.CgroupDriver] gives it.
	CgroupDriver string
}

// Setup asks the runtime how it is set up.
func (c *Client) Setup(ctx context.Context) (Setup, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	shown, err := c.configuration(ctx)
	if err != nil {
		return Setup{}, err
	}
	s := Setup{CNIConf: shown.CNI.ConfDir, CNIBin: shown.CNI.BinDirs}
	if dir := shown.CNI.BinDir; dir != "" {
		s.CNIBin = append(s.CNIBin, dir)
	}
	s.CgroupDriver, err = c.cgroupDriver(ctx, func(context.Context) (configuration, error) { return shown, nil })
	return s, err
}

// configuration is what is of use here of what the runtime shows of its own: containerd
// that of its CRI plugin, CRI-O the sandbox's image alone; empty where it shows none.
type configuration struct {
	SandboxImage string `json:"sandboxImage"`
	CNI          struct {
		ConfDir string   `json:"confDir"`
		BinDir  string   `json:"binDir"`
		BinDirs []string `json:"binDirs"` // from containerd 2.1
	} `json:"cni"`
	Containerd struct {
		DefaultRuntimeName string `json:"defaultRuntimeName"`
		Runtimes           map[string]struct {
			Type    string `json:"runtimeType"`
			Options struct {
				SystemdCgroup *bool `json:"SystemdCgroup"`
			} `json:"options"`
		} `json:"runtimes"`
	} `json:"containerd"`
}

// cgroupDriver is empty where nothing of it is shown.
func (c *configuration) cgroupDriver() string {
	handler, ok := c.Containerd.Runtimes[c.Containerd.DefaultRuntimeName]
	switch {
	case !ok:
		return ""
	case handler.Options.SystemdCgroup != nil && *handler.Options.SystemdCgroup:
		return "systemd"
	default:
		return "cgroupfs" // what an option is that is left out
	}
}

// passedOver says whether the default handler is one of runc's that has no word of
// systemd: containerd 2 then answers for the next handler that has one.
func (c *configuration) passedOver() bool {
	handler := c.Containerd.Runtimes[c.Containerd.DefaultRuntimeName]
	return handler.Type == "io.containerd.runc.v2" && handler.Options.SystemdCgroup == nil
}

func (c *Client) configuration(ctx context.Context) (configuration, error) {
	var out configuration
	r, err := c.runtime.Status(ctx, &runtimev1.StatusRequest{Verbose: true})
	if err != nil {
		return out, c.wrap("get runtime configuration", err)
	}
	raw := r.GetInfo()["config"]
	if raw == "" {
		return out, nil
	}
	if err := json.Unmarshal([]byte(raw), &out); err != nil {
		return out, fmt.Errorf("read runtime configuration: %w", err)
	}
	return out, nil
}

// CgroupDriver says who makes control groups for the runtime: cgroupfs or systemd, and
// empty where it does not tell. Runtimes before containerd 2.0 have no call for it, but
// show their configuration, in which the default handler counts, as it does where
// containerd 2 answers for another.
func (c *Client) CgroupDriver(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	return c.cgroupDriver(ctx, c.configuration)
}

// cgroupDriver asks for what is shown only where it counts.
func (c *Client) cgroupDriver(ctx context.Context, configuration func(context.Context) (configuration, error)) (string, error) {
	r, err := c.runtime.RuntimeConfig(ctx, &runtimev1.RuntimeConfigRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
	case err != nil:
		return "", c.wrap("get cgroup driver", err)
	case r.GetLinux() != nil:
		said := strings.ToLower(r.GetLinux().GetCgroupDriver().String())
		// One that shows nothing is taken at its word.
		if shown, err := configuration(ctx); err == nil && said == "systemd" && shown.passedOver() {
			c.log.Warn("the runtime speaks of systemd, but its default handler makes control groups without", "handler", shown.Containerd.DefaultRuntimeName)
			return "cgroupfs", nil
		}
		return said, nil
	}
	shown, err := configuration(ctx)
	if err != nil {
		return "", err
	}
	return shown.cgroupDriver(), nil
}
