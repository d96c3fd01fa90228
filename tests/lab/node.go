package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A machine of a lab can also be a node of the cluster itself, with the real kubelet,
// for what runs in the cloud.

// serviceIP is that of Service kubernetes, which pods dial.
const serviceIP = "10.96.0.1"

// Door lets machines reach kube-apiserver, which listens on loopback: the bytes pass
// as they are. It makes the cloud's address if there is none.
func (l *Lab) Door(ctx context.Context) (io.Closer, error) {
	if err := l.addCloudDevice(ctx); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	door, err := lc.Listen(ctx, "tcp", l.door().String())
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			go l.pass(c)
		}
	}()
	return door, nil
}

func (l *Lab) door() netip.AddrPort {
	return netip.AddrPortFrom(l.CloudAddr(), uint16(l.cfg.PortBase+13))
}

// pass carries a connection to kube-apiserver until one end is closed.
func (l *Lab) pass(from net.Conn) {
	defer from.Close() //nolint:errcheck // nothing is lost with it
	to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.cfg.PortBase))
	if err != nil {
		return
	}
	defer to.Close() //nolint:errcheck // as above
	ended := make(chan struct{}, 2)
	for _, ends := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			_, _ = io.Copy(ends[1], ends[0])
			ended <- struct{}{}
		}()
	}
	<-ended
}

const kubelet = "kubelet"

// StartKubelet makes the machine a node of the cluster, and its pods reachable from
// the cloud and from other machines. Service kubernetes is there for its pods; other
// Services are not, see Redirect. A Door must be open. Its certificate for kubectl logs
// waits for approval.
func (e *Edge) StartKubelet(ctx context.Context) error {
	if err := e.Expose(ctx); err != nil {
		return err
	}
	if err := e.Redirect(ctx, "tcp", netip.MustParseAddrPort(serviceIP+":443"), e.lab.door()); err != nil {
		return err
	}
	return e.RunKubelet(ctx, e.lab.Bin(kubelet), `serverTLSBootstrap: true
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: `+e.lab.Path("cluster", "pki", "ca.crt")+`}}
`)
}

// RunKubelet starts a kubelet on the machine: with its defaults, but for what says where
// it runs, and for settings, which are further lines of its configuration. A Door must
// be open.
func (e *Edge) RunKubelet(ctx context.Context, program, settings string) error {
	admin, err := os.ReadFile(e.lab.Kubeconfig())
	if err != nil {
		return err
	}
	kubeconfig := strings.ReplaceAll(string(admin), fmt.Sprintf(`"https://127.0.0.1:%d"`, e.lab.cfg.PortBase),
		fmt.Sprintf(`"https://%s", tls-server-name: "127.0.0.1"`, e.lab.door()))
	config := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: %s
containerRuntimeEndpoint: %s
resolvConf: %s
podLogsDir: %s
volumePluginDir: %s
failSwapOn: false
authorization: {mode: AlwaysAllow}
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, imagefs.available: 1%%, nodefs.inodesFree: 1%%}
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
%s`, e.CgroupRoot(), e.CRISocket(), e.Path("resolv.conf"), e.Path("podlogs"), e.Path("volumeplugins"), settings)
	for name, text := range map[string]string{"kubeconfig": kubeconfig, "kubelet.yaml": config, "resolv.conf": "nameserver 127.0.0.1\n"} {
		if err := os.WriteFile(e.Path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	// A link: what has it open need not know where the binary is kept.
	if program, err = filepath.EvalSymlinks(program); err != nil {
		return fmt.Errorf("the real kubelet: %w", err)
	}
	if program, err = filepath.Abs(program); err != nil {
		return err
	}
	return e.StartGuest(ctx, kubelet, program, "--config", e.Path("kubelet.yaml"), "--kubeconfig", e.Path("kubeconfig"),
		"--root-dir", e.KubeletDir(), "--cert-dir", e.Path(kubelet, "pki"), "--hostname-override", e.Name, "--node-ip", e.Addr().String())
}

// StopKubelet ends the kubelet; pods go on.
func (e *Edge) StopKubelet(ctx context.Context) error { return e.StopGuest(ctx, kubelet) }

// KubeletPID is the kubelet's process, if it runs.
func (e *Edge) KubeletPID() (int, bool) { return e.GuestPID(kubelet) }

// KubeletDir is where the kubelet keeps what is of its pods.
func (e *Edge) KubeletDir() string { return e.Path(kubelet) }

// Expose lets the cloud and other machines that are exposed reach the machine's pods.
// The route goes with the device.
func (e *Edge) Expose(ctx context.Context) error {
	dev := e.cloudDevice()
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+dev+"/forwarding", []byte("1"), 0); err != nil {
		return err
	}
	_, err := e.lab.run(ctx, "ip", "route", "replace", e.podCIDR(), "via", e.Addr().String(), "dev", dev)
	return err
}

// Redirect sends what comes to the machine, or to its pods' gateway, for one address
// to another: what kube-proxy does for a Service with one endpoint. A later one for
// the same address takes the place of an earlier one.
func (e *Edge) Redirect(ctx context.Context, protocol string, from, to netip.AddrPort) error {
	rule := []string{
		"-d", from.Addr().String() + "/32", "-p", protocol, "-m", protocol, "--dport", fmt.Sprint(from.Port()),
		"-m", "comment", "--comment", fmt.Sprintf("%s-%s", protocol, from), "-j", "DNAT", "--to-destination",
	}
	out, err := e.Run(ctx, "iptables", "-w", "-t", "nat", "-S", "PREROUTING")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.Contains(line, fmt.Sprintf("%s-%s", protocol, from)) {
			continue
		}
		if words[len(words)-1] == to.String() {
			return nil
		}
		old := append([]string{"iptables", "-w", "-t", "nat", "-D", "PREROUTING"}, rule...)
		if _, err := e.Run(ctx, append(old, words[len(words)-1])...); err != nil {
			return err
		}
	}
	add := append([]string{"iptables", "-w", "-t", "nat", "-A", "PREROUTING"}, rule...)
	_, err = e.Run(ctx, append(add, to.String())...)
	return err
}

// ParseToken finds the parts of a join command.
func (l *Lab) ParseToken(command string) (Token, error) { return parseToken(command, "") }

// CLIOutput runs the skerry command as the cluster's administrator and gives what it
// wrote to standard output and to standard error.
func (l *Lab) CLIOutput(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, l.Bin("skerry"), args...)
	cmd.Env = append(l.Environ(), "KUBECONFIG="+l.Kubeconfig())
	return output(cmd)
}
