package pods

import (
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// dnsConfig is what the pod's resolv.conf says.
func (e *env) dnsConfig(pod *corev1.Pod) (*cri.DNSConfig, error) {
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = corev1.DNSDefault
	}
	if len(e.ClusterDNS) == 0 && (policy == corev1.DNSClusterFirst || policy == corev1.DNSClusterFirstWithHostNet) {
		policy = corev1.DNSDefault
	}
	out := &cri.DNSConfig{}
	if policy != corev1.DNSNone {
		host, err := readResolvConf(e.ResolvConf)
		if err != nil {
			return nil, err
		}
		out = host
	}
	if policy == corev1.DNSClusterFirst || policy == corev1.DNSClusterFirstWithHostNet || policy == "" && len(e.ClusterDNS) > 0 {
		out.Servers = slices.Clip(e.ClusterDNS)
		if d := e.ClusterDomain; d != "" {
			out.Searches = append([]string{pod.Namespace + ".svc." + d, "svc." + d, d}, out.Searches...)
		}
		out.Options = []string{"ndots:5"}
	}
	mergeDNS(out, pod.Spec.DNSConfig)
	return out, nil
}

// What C libraries read of a resolv.conf, and kubelets write.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

// limitDNS leaves out what is more than resolvers read. The warnings are for events
// DNSConfigForming.
func limitDNS(c *cri.DNSConfig) (warnings []string) {
	if len(c.Servers) > maxNameservers {
		c.Servers = c.Servers[:maxNameservers]
		warnings = append(warnings, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+strings.Join(c.Servers, " "))
	}
	n, chars := 0, 0
	for n < len(c.Searches) && n < maxSearches {
		with := chars + len(c.Searches[n])
		if n > 0 {
			with++
		}
		if with > maxSearchChars {
			break
		}
		n, chars = n+1, with
	}
	if n < len(c.Searches) {
		c.Searches = c.Searches[:n]
		warnings = append(warnings, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(c.Searches, " "))
	}
	return warnings
}

// warnDNS tells what was left out of the pod's resolv.conf.
func (e *env) warnDNS(pod *corev1.Pod) {
	c, err := e.dnsConfig(pod)
	if err != nil {
		return // as before, when the sandbox was made
	}
	for _, w := range limitDNS(c) {
		e.event(pod, "", corev1.EventTypeWarning, "DNSConfigForming", w)
	}
}

// mergeDNS adds the pod's own settings; an option of the pod replaces the same
// option of the node.
func mergeDNS(out *cri.DNSConfig, own *corev1.PodDNSConfig) {
	if own == nil {
		out.Servers, out.Searches = unique(out.Servers), unique(out.Searches)
		return
	}
	out.Servers = unique(append(out.Servers, own.Nameservers...))
	out.Searches = unique(append(out.Searches, own.Searches...))
	for _, o := range own.Options {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		kept := out.Options[:0:0]
		for _, have := range out.Options {
			if name, _, _ := strings.Cut(have, ":"); name != o.Name {
				kept = append(kept, have)
			}
		}
		out.Options = append(kept, text)
	}
}

func unique(in []string) []string {
	seen := map[string]bool{}
	out := in[:0:0]
	for _, s := range in {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

const (
	resolvConf        = "/etc/resolv.conf"
	resolvedResolv    = "/run/systemd/resolve/resolv.conf"
	resolvedStubAddr  = "127.0.0.53"
	resolvConfMaxSize = 64 << 10
)

// findResolvConf avoids the stub of systemd-resolved, which listens on the
// node's loopback, where no pod can reach it.
func findResolvConf() string {
	b, err := os.ReadFile(resolvConf)
	if err == nil && strings.Contains(string(b), resolvedStubAddr) {
		if _, err := os.Stat(resolvedResolv); err == nil {
			return resolvedResolv
		}
	}
	return resolvConf
}

func readResolvConf(path string) (*cri.DNSConfig, error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return &cri.DNSConfig{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read resolver configuration: %w", err)
	}
	out := &cri.DNSConfig{}
	for line := range strings.SplitSeq(string(b[:min(len(b), resolvConfMaxSize)]), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			out.Servers = append(out.Servers, f[1])
		case "search":
			out.Searches = f[1:] // the last one counts
		case "options":
			out.Options = append(out.Options, f[1:]...)
		}
	}
	return out, nil
}
