package lab

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// StartCluster brings up the control plane and installs Config.Manifests.
func (l *Lab) StartCluster(ctx context.Context) error {
	args := []string{l.Bin("devcluster"), "up", "--dir", l.Path("cluster"), "--port-base", strconv.Itoa(l.cfg.PortBase)}
	if l.cfg.VerifyKubelets {
		// The control plane signs for kubelets with its own CA, as kubeadm's does.
		args = append(args, "--extra", "kube-apiserver=--kubelet-certificate-authority="+l.Path("cluster", "pki", "ca.crt"))
	}
	if _, err := l.run(ctx, args...); err != nil {
		return fmt.Errorf("%w (logs: %s)", err, l.Path("cluster", "log"))
	}
	if err := os.Symlink("cluster/kubeconfig", l.Path("kubeconfig")); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return l.Apply(ctx, l.cfg.Manifests)
}

// StopCluster takes the control plane away with its data.
func (l *Lab) StopCluster(ctx context.Context) error {
	if !exists(l.Path("cluster")) || !exists(l.Bin("devcluster")) {
		return nil
	}
	_, err := l.run(ctx, l.Bin("devcluster"), "down", "--purge", "--dir", l.Path("cluster"))
	return err
}

// Kubeconfig is the administrator's.
func (l *Lab) Kubeconfig() string { return l.Path("kubeconfig") }

// Command prepares a kubectl of the lab's cluster.
func (l *Lab) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.Bin("kubectl"), args...)
	cmd.Env = append(l.Environ(), "KUBECONFIG="+l.Kubeconfig(), "KUBECACHEDIR="+l.Path("cluster", "cache"))
	cmd.WaitDelay = commandWait
	return cmd
}

// Kubectl runs kubectl and returns its standard output.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.kubectlInput(ctx, "", args...)
}

// Apply applies YAML; nothing is nothing to do.
func (l *Lab) Apply(ctx context.Context, yaml []byte) error {
	if len(yaml) == 0 {
		return nil
	}
	_, err := l.kubectlInput(ctx, string(yaml), "apply", "-f", "-")
	return err
}

func (l *Lab) kubectlInput(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := l.Command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, _, err := output(cmd)
	return out, err
}

// proxyKubeconfig writes the kubeconfig of the cloud proxy: its own
// ServiceAccount, so that a lab proves the RBAC rules too. The token is in a
// file of its own, which a second call renews under a running proxy.
func (l *Lab) proxyKubeconfig(ctx context.Context) (string, error) {
	var token string
	// The ServiceAccount is applied a moment before; its namespace may lag.
	err := Until(ctx, 30*time.Second, "a token for the cloud proxy", func() (err error) {
		token, err = l.Kubectl(ctx, "-n", Namespace, "create", "token", "cloudproxy", "--duration", "24h")
		return err
	})
	if err != nil {
		return "", err
	}
	raw, err := l.Kubectl(ctx, "config", "view", "--raw", "--minify", "-o", "json")
	if err != nil {
		return "", err
	}
	var admin struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if err := json.Unmarshal([]byte(raw), &admin); err != nil || len(admin.Clusters) != 1 {
		return "", fmt.Errorf("kubeconfig %s: %d clusters: %w", l.Kubeconfig(), len(admin.Clusters), err)
	}
	if err := os.MkdirAll(l.Path("proxy"), 0o700); err != nil {
		return "", err
	}
	file, tokenFile := l.Path("proxy", "kubeconfig"), l.Path("proxy", "token")
	if err := os.WriteFile(tokenFile, []byte(strings.TrimSpace(token)), 0o600); err != nil {
		return "", err
	}
	c := admin.Clusters[0].Cluster
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: cloudproxy, user: {tokenFile: %q}}]
contexts: [{name: lab, context: {cluster: lab, user: cloudproxy}}]
current-context: lab
`, c.Server, base64.StdEncoding.EncodeToString(c.CA), tokenFile)
	return file, os.WriteFile(file, []byte(text), 0o600)
}
