package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/edgeagent/config"
	"github.com/skerry-io/skerry/edgeagent/local"
)

// edgeDoctor is what its checks find out for those that come after.
type edgeDoctor struct {
	*ends
	cfg      config.Config
	node     *corev1.Node
	runtime  runtimeState
	answered bool // the runtime did
}

func (e *ends) edgeChecks() []check {
	d := &edgeDoctor{ends: e, cfg: config.Default()}
	if c, err := config.Load(e.configFile()); err == nil {
		d.cfg = c
	}
	checks := []check{
		{"the configuration can be read", plain(d.configuration)},
		{"the certificate is good", func(context.Context) (string, error) { return d.certificate(time.Now()) }},
		{"the agent's service runs", d.service},
		{"the agent answers", d.answers},
		{"it has a session to the cloud", func(context.Context) (string, error) { return d.condition(local.ConditionCloudConnected, "") }},
		{"the Node is Ready", func(context.Context) (string, error) {
			return d.condition(corev1.NodeReady, "; see the checks of the runtime and of pods' network below")
		}},
		{"the node has room: no pressure of memory, disk or processes", func(context.Context) (string, error) { return "", d.pressure() }},
		{"static pods are as they should be", d.staticPods},
		{"the container runtime answers at " + d.cfg.CRISocket, func(ctx context.Context) (string, error) {
			note, state, err := e.host.runtime(ctx, d.cfg.CRISocket)
			d.runtime, d.answered = state, err == nil
			if err == nil && !state.networkReady {
				err = fmt.Errorf("%s runs, but pods have no network: %s; put a CNI configuration into %s ('skerry join' writes a bridge when there is none)", note, state.reason, cmp.Or(state.cniConf, e.host.cniConf))
			}
			return note, err
		}},
		{"the runtime's cgroup driver is one that works here", func(context.Context) (string, error) {
			if !d.answered {
				return "", warn("the runtime could not be asked")
			}
			return e.host.cgroupDriver(d.cfg.CgroupDriver, d.runtime)
		}},
		{"no kubelet runs here", func(ctx context.Context) (string, error) { return "", e.host.noKubelet(ctx) }},
		{fmt.Sprintf("the kernel is %d.%d or later", oldestKernelMajor, oldestKernelMinor), func(context.Context) (string, error) { return e.host.kernel() }},
		{"cgroups hold cpu, memory and pids", func(context.Context) (string, error) { return e.host.cgroups() }},
		{"the disk of " + d.cfg.StateDir + " has room", func(context.Context) (string, error) { return free(d.cfg.StateDir) }},
	}
	if d.cfg.Server == "" {
		return checks
	}
	return append(checks, proxyChecks(d.cfg.Server, d.trusted())...)
}

func (d *edgeDoctor) configuration() error {
	c, err := config.Load(d.configFile())
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("%s: %w; correct it and 'systemctl restart %s'", d.configFile(), err, unitName)
	}
	return nil
}

// trusted gives the CAs that the agent trusts, as one predicate.
func (d *edgeDoctor) trusted() func(*x509.Certificate) bool {
	data, err := os.ReadFile(filepath.Join(d.cfg.CertDir, "ca.crt"))
	if err != nil {
		return func(*x509.Certificate) bool { return false }
	}
	var hashes []certs.CAHash
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil {
			hashes = append(hashes, certs.HashCA(ca))
		}
	}
	return func(cert *x509.Certificate) bool {
		for _, h := range hashes {
			if h.Matches(cert) {
				return true
			}
		}
		return false
	}
}

func (d *edgeDoctor) certificate(now time.Time) (string, error) {
	key := filepath.Join(d.cfg.CertDir, "edge.key")
	pair, err := certs.NewKeyPairFile(filepath.Join(d.cfg.CertDir, "edge.crt"), key, nil)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return "", fmt.Errorf("%w; try sudo", err)
		}
		return "", fmt.Errorf("%w; join again: 'skerry token create' in the cloud prints the command, add --force", err)
	}
	if info, err := os.Stat(key); err == nil && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("others can read its key; 'chmod 600 %s', and if somebody may have, 'skerry revoke' in the cloud and join anew", key)
	}
	leaf := pair.Current().Leaf
	id, err := pair.Identity()
	if err != nil {
		return "", err
	}
	until := leaf.NotAfter.UTC().Format(time.RFC3339)
	switch life := leaf.NotAfter.Sub(leaf.NotBefore); {
	case now.After(leaf.NotAfter):
		return "", warn("it ran out at %s; the agent renews it with its key when it reaches the proxy again, for 90 days unless set otherwise, then the edge has to join anew", until)
	case now.Before(leaf.NotBefore):
		return "", fmt.Errorf("it begins at %s; this machine's clock is behind: 'timedatectl set-ntp true'", leaf.NotBefore.UTC().Format(time.RFC3339))
	case leaf.NotAfter.Sub(now) < life/4:
		return "", warn("it ends at %s and should have been renewed by now; see the session below and 'journalctl -u %s'", until, unitName)
	}
	return fmt.Sprintf("%s, until %s", id.Node, until), nil
}

func (d *edgeDoctor) service(ctx context.Context) (string, error) {
	if !d.unit.installed() {
		return "", warn("there is no %s; something else has to start the agent", d.unit.file())
	}
	if !d.unit.runs() {
		return "", warn("systemd does not run here; something else has to start the agent")
	}
	if err := d.unit.run(ctx, "is-active", "--quiet", unitName); err != nil {
		return "", fmt.Errorf("it does not; 'systemctl start %s', and 'journalctl -u %s' says why it has ended", unitName, unitName)
	}
	return "", nil
}

func (d *edgeDoctor) answers(ctx context.Context) (string, error) {
	node, err := d.agent.client().Node(ctx)
	if err != nil {
		return "", explainLocal(ctx, err)
	}
	d.node = node
	return node.Status.NodeInfo.KubeletVersion, nil
}

// condition wants a condition of the Node to be true.
func (d *edgeDoctor) condition(want corev1.NodeConditionType, advice string) (string, error) {
	if d.node == nil {
		return "", warn("the agent could not be asked")
	}
	for _, c := range d.node.Status.Conditions {
		if c.Type != want {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return c.Message, nil
		}
		if want == local.ConditionCloudConnected {
			advice = "; see the checks of TCP and UDP below, and 'skerry status' in the cloud; pods run on meanwhile"
		}
		return "", fmt.Errorf("%s%s", c.Message, advice)
	}
	return "", warn("the agent does not say")
}

func (d *edgeDoctor) pressure() error {
	if d.node == nil {
		return warn("the agent could not be asked")
	}
	advice := map[corev1.NodeConditionType]string{
		corev1.NodeMemoryPressure: "pods without limits are evicted first: see 'skerry get pods' and give them limits",
		corev1.NodeDiskPressure:   "images and logs that are not needed are removed by themselves; make room on the disk",
		corev1.NodePIDPressure:    "some pod starts too many processes: see 'ps -eo cgroup,pid | sort'",
	}
	var bad []string
	for _, c := range d.node.Status.Conditions {
		if text, ok := advice[c.Type]; ok && c.Status == corev1.ConditionTrue {
			bad = append(bad, fmt.Sprintf("%s: %s; %s", c.Type, c.Message, text))
		}
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}

func (d *edgeDoctor) staticPods(ctx context.Context) (string, error) {
	if d.node == nil {
		return "", warn("the agent could not be asked")
	}
	pods, err := d.agent.client().Pods(ctx)
	if err != nil {
		return "", explainLocal(ctx, err)
	}
	if len(pods.Problems) > 0 {
		return "", fmt.Errorf("%s; correct the file, the agent reads it again", strings.Join(pods.Problems, "; "))
	}
	return "", nil
}
