package pods

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

const (
	etcHostsPath       = "/etc/hosts"
	defaultMessagePath = "/dev/termination-log"
)

// containerConfig describes a container of the pod and makes the files on the
// host that it mounts.
func (e *env) containerConfig(ctx context.Context, s *snapshot, c *corev1.Container, image *cri.Image, imageRef string, restarts int32) (*cri.ContainerConfig, error) {
	facts := e.facts(s)
	vars, err := e.environment(s.pod, c, facts)
	if err != nil {
		return nil, err
	}
	mounts, err := e.mounts(ctx, s, c, vars, restarts)
	if err != nil {
		return nil, err
	}
	security, err := e.security(s.pod, c, image)
	if err != nil {
		return nil, err
	}
	if target := s.ephemeralTarget(c.Name); target != "" {
		have := s.obs.active(target)
		if have == nil {
			return nil, fmt.Errorf("unable to find target container %q", target)
		}
		security.Namespaces.PID, security.Namespaces.TargetID = cri.NamespaceTarget, have.id
	}
	annotations, err := containerAnnotations(s.pod, c, restarts)
	if err != nil {
		return nil, err
	}
	return &cri.ContainerConfig{
		Name: c.Name, Attempt: uint32(restarts),
		Image: imageRef, UserImage: c.Image,
		Command: expandAll(c.Command, vars), Args: expandAll(c.Args, vars),
		WorkingDir: c.WorkingDir,
		Env:        vars,
		Mounts:     mounts,
		Labels:     containerLabels(s.pod, c.Name), Annotations: annotations,
		LogPath:    logPath(c.Name, restarts),
		StopSignal: stopSignal(c),
		Stdin:      c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY,
		Resources: e.containerResources(s.pod, c),
		Security:  security,
	}, nil
}

// facts are what the pod may ask about itself beyond its object.
func (e *env) facts(s *snapshot) downward.Facts {
	f := downward.Facts{HostIPs: e.HostIP(), PodIPs: s.obs.ips, Allocatable: e.Allocatable()}
	if s.pod.Spec.HostNetwork {
		f.PodIPs = f.HostIPs
	}
	return f
}

func (e *env) mounts(ctx context.Context, s *snapshot, c *corev1.Container, vars []cri.EnvVar, restarts int32) ([]cri.Mount, error) {
	hostsMounted := false
	var out []cri.Mount
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		hostsMounted = hostsMounted || m.MountPath == etcHostsPath
		mount, err := e.volumeMount(ctx, s.pod, c, i, vars)
		if err != nil {
			return nil, err
		}
		out = append(out, mount)
	}
	if !hostsMounted {
		path, err := e.writeHosts(s)
		if err != nil {
			return nil, err
		}
		out = append(out, cri.Mount{ContainerPath: etcHostsPath, HostPath: path})
	}
	path, err := e.terminationFile(s.pod, c, restarts)
	if err != nil {
		return nil, err
	}
	inside := c.TerminationMessagePath
	if inside == "" {
		inside = defaultMessagePath
	}
	return append(out, cri.Mount{ContainerPath: inside, HostPath: path}), nil
}

// writeHosts writes the pod's /etc/hosts. All its containers share the file.
func (e *env) writeHosts(s *snapshot) (string, error) {
	var b strings.Builder
	if s.pod.Spec.HostNetwork {
		own, err := os.ReadFile(etcHostsPath)
		if err != nil {
			return "", fmt.Errorf("read the node's hosts file: %w", err)
		}
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(own)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n" +
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		name, err := e.hostname(s.pod)
		if err != nil {
			return "", err
		}
		domain := e.subdomain(s.pod)
		for _, ip := range s.obs.ips {
			if domain == "" {
				fmt.Fprintf(&b, "%s\t%s\n", ip, name)
			} else {
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, strings.TrimSuffix(name, "."+domain), domain, name)
			}
		}
	}
	if len(s.pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range s.pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	path := filepath.Join(e.volumes.PodDir(s.pod.UID), "etc-hosts")
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", fmt.Errorf("write hosts file: %w", err)
	}
	// In place: running containers have this very file mounted.
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return "", fmt.Errorf("write hosts file: %w", err)
	}
	return path, nil
}

// terminationFile makes the file for a container's last words, which any user
// in the container may write.
func (e *env) terminationFile(pod *corev1.Pod, c *corev1.Container, restarts int32) (string, error) {
	path := e.terminationPath(pod.UID, c.Name, restarts)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", fmt.Errorf("make termination message file: %w", err)
	}
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return "", fmt.Errorf("make termination message file: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // whatever the umask says
		return "", fmt.Errorf("make termination message file: %w", err)
	}
	return path, nil
}

// terminationPath is where the last words of one instance are.
func (e *env) terminationPath(uid types.UID, container string, restarts int32) string {
	return filepath.Join(e.volumes.PodDir(uid), "containers", container, fmt.Sprintf("%08x", restarts))
}
