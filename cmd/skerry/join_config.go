package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/edgeagent/config"
)

// baseConfig is what edgeagent.yaml is made of: the defaults, or the file of --config,
// which also says what flags that are not given say.
func (o *join) baseConfig(cmd *cobra.Command) (config.Config, error) {
	if o.base == "" {
		return config.Default(), nil
	}
	data, err := os.ReadFile(o.base)
	if err != nil {
		return config.Config{}, fmt.Errorf("--config: %w", err)
	}
	c, err := config.Parse(data)
	if err != nil {
		return c, badUsage(cmd, "--config %s: %w", o.base, err)
	}
	if !cmd.Flags().Changed("state-dir") {
		o.stateDir = c.StateDir
	}
	if !cmd.Flags().Changed("cri-socket") {
		o.criSocket = c.CRISocket
	}
	if !cmd.Flags().Changed("node-name") && c.NodeName != "" {
		o.nodeName = c.NodeName
	}
	return c, nil
}

// agentConfig gives the text of edgeagent.yaml.
func (o *join) agentConfig(c config.Config) ([]byte, error) {
	c.Server, c.NodeName = o.server, o.nodeName
	c.StateDir, c.CRISocket = o.stateDir, o.criSocket
	if err := o.claim(&c); err != nil {
		return nil, err
	}
	c.CertDir = filepath.Join(o.configDir, "pki")
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c.Marshal()
}

// claim puts the labels and taints of flags over those of a file. The proxy leaves out
// what an edge may not say of its Node; here it is an error, while somebody looks.
func (o *join) claim(c *config.Config) error {
	if len(o.labels) > 0 && c.Labels == nil {
		c.Labels = map[string]string{}
	}
	maps.Copy(c.Labels, o.labels)
	for _, key := range slices.Sorted(maps.Keys(c.Labels)) {
		if !report.MayLabel(key) {
			return &config.Error{Field: "labels", Reason: fmt.Sprintf(
				"key %q: an edge may not give its Node this label; next: leave it out, and say 'kubectl label node' where a kubeconfig is", key)}
		}
	}
	of := func(text string) func(string) bool {
		taint, err := config.ParseTaint(text)
		return func(other string) bool {
			t, otherErr := config.ParseTaint(other)
			return err == nil && otherErr == nil && t.MatchTaint(&taint)
		}
	}
	for _, text := range o.taints {
		c.Taints = slices.DeleteFunc(c.Taints, of(text))
	}
	c.Taints = append(c.Taints, o.taints...)
	taints, err := c.NodeTaints()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(taints, func(t corev1.Taint) bool { return !report.MayTaint(t.Key) }); i >= 0 {
		return &config.Error{Field: "taints", Reason: fmt.Sprintf(
			"key %q: an edge may not give its Node this taint; next: leave it out, and say 'kubectl taint node' where a kubeconfig is", taints[i].Key)}
	}
	return nil
}
