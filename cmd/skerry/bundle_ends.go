package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/cmd/skerry/install"
	"github.com/skerry-io/skerry/edgeagent/config"
)

// logLines are the last ones of a log that are taken.
const logLines = 20000

// collectEdge looks at this machine.
func (e *ends) collectEdge(ctx context.Context, b *bundle, progress func(string)) {
	progress("the agent's configuration, state and log")
	b.file("edgeagent.yaml", e.configFile())
	client := e.agent.client()
	b.object("node.yaml", func() (any, error) { return client.Node(ctx) })
	b.object("pods.yaml", func() (any, error) {
		all, err := client.Pods(ctx)
		var states []any
		for i := range all.Pods {
			states = append(states, podState(&all.Pods[i]))
		}
		return map[string]any{"pods": states, "problems": all.Problems}, err
	})
	b.command(ctx, "agent.log", "journalctl", "--no-pager", "-u", unitName, "-n", fmt.Sprint(logLines))
	b.command(ctx, "service.txt", "systemctl", "show", "--no-pager", unitName)
	cfg := config.Default()
	if c, err := config.Load(e.configFile()); err == nil {
		cfg = c
	}
	b.try("state-files.txt", func() ([]byte, error) { return listing(cfg.StateDir) })
	progress("the machine: kernel, network, mounts, memory")
	for name, path := range map[string]string{
		"meminfo.txt": "/proc/meminfo", "mounts.txt": "/proc/self/mountinfo", "os-release.txt": "/etc/os-release",
		"kernel.txt": "/proc/version", "uptime.txt": "/proc/uptime", "cgroups.txt": "/proc/cgroups",
	} {
		b.file("machine/"+name, path)
	}
	b.command(ctx, "machine/addresses.txt", "ip", "addr")
	b.command(ctx, "machine/routes.txt", "ip", "route", "show", "table", "all")
	b.command(ctx, "machine/disk.txt", "df", "-hT")
	b.command(ctx, "machine/clock.txt", "timedatectl")
	b.command(ctx, "machine/runtime.txt", "systemctl", "status", "--no-pager", "containerd.service", "crio.service")
}

// listing tells names, sizes and times below dir, and no content; what pods have in
// their volumes is theirs.
func listing(dir string) ([]byte, error) {
	var out bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintf(&out, "%s: %v\n", path, err)
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // it has just gone
		}
		fmt.Fprintf(&out, "%s %10d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format("2006-01-02 15:04:05"), path)
		if entry.IsDir() && entry.Name() == "volumes" {
			return fs.SkipDir
		}
		return nil
	})
	return out.Bytes(), err
}

// collectCloud looks at the proxy and what the cluster says of edges.
func (e *ends) collectCloud(ctx context.Context, b *bundle, progress func(string)) error {
	c, err := e.cluster.installer(func(string) {})
	if err != nil {
		return err
	}
	progress("the proxy: Deployment, pods, Services, events, logs")
	core := c.Client.CoreV1()
	b.object("proxy/deployment.yaml", func() (any, error) {
		d, err := c.Client.AppsV1().Deployments(c.Namespace).Get(ctx, "cloudproxy", metav1.GetOptions{})
		bare(&d.ObjectMeta)
		return d, err
	})
	b.object("proxy/services.yaml", func() (any, error) {
		list, err := core.Services(c.Namespace).List(ctx, metav1.ListOptions{})
		for i := range list.Items {
			bare(&list.Items[i].ObjectMeta)
		}
		return list, err
	})
	for _, name := range []string{"skerry-info", "skerry-revoked", "skerry-ports"} {
		b.object("proxy/"+name+".yaml", func() (any, error) {
			cm, err := core.ConfigMaps(c.Namespace).Get(ctx, name, metav1.GetOptions{})
			bare(&cm.ObjectMeta)
			return cm, err
		})
	}
	events := func(namespace string) func() (any, error) {
		return func() (any, error) {
			list, err := core.Events(namespace).List(ctx, metav1.ListOptions{})
			for i := range list.Items {
				bare(&list.Items[i].ObjectMeta)
			}
			return list, err
		}
	}
	b.object("proxy/events.yaml", events(c.Namespace))
	b.object("edges/events.yaml", events(metav1.NamespaceDefault))
	collectProxyPods(ctx, c, b)
	for name, path := range map[string]string{"metrics.txt": "metrics", "edges.json": "edges", "ready.txt": "readyz"} {
		b.try("proxy/"+name, func() ([]byte, error) {
			return core.RESTClient().Get().Namespace(c.Namespace).Resource("services").
				Name("cloudproxy-internal:metrics").SubResource("proxy").Suffix(path).DoRaw(ctx)
		})
	}
	progress("edges: Nodes, Leases, pods' states, certificate requests")
	return collectEdges(ctx, c, b)
}

func collectProxyPods(ctx context.Context, c *install.Cluster, b *bundle) {
	pods, err := c.Client.CoreV1().Pods(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=cloudproxy"})
	if err != nil {
		b.add("proxy/pods.error", []byte(err.Error()))
		return
	}
	lines := int64(logLines)
	for i := range pods.Items {
		p := &pods.Items[i]
		b.object("proxy/pods/"+p.Name+".yaml", func() (any, error) { return podState(p), nil })
		for name, previous := range map[string]bool{".log": false, ".previous.log": true} {
			b.try("proxy/pods/"+p.Name+name, func() ([]byte, error) {
				return c.Client.CoreV1().Pods(c.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines, Previous: previous}).DoRaw(ctx)
			})
		}
	}
}

func collectEdges(ctx context.Context, c *install.Cluster, b *bundle) error {
	nodes, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "skerry.io/edge"})
	if err != nil {
		return fmt.Errorf("list edges: %w", err)
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		bare(&n.ObjectMeta)
		b.object("edges/"+n.Name+"/node.yaml", func() (any, error) { return n, nil })
		b.try("edges/"+n.Name+"/session.json", func() ([]byte, error) {
			return c.Client.CoreV1().RESTClient().Get().Resource("nodes").Name(n.Name).SubResource("proxy").Suffix("edge/v1/session").DoRaw(ctx)
		})
		b.object("edges/"+n.Name+"/pods.yaml", func() (any, error) {
			pods, err := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + n.Name})
			if err != nil {
				return nil, err
			}
			var states []any
			for i := range pods.Items {
				states = append(states, podState(&pods.Items[i]))
			}
			return states, nil
		})
	}
	b.try("edges/certificate-requests.json", func() ([]byte, error) {
		list, err := c.Client.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		var all []map[string]any
		for i := range list.Items {
			r := &list.Items[i]
			all = append(all, map[string]any{
				"name": r.Name, "created": r.CreationTimestamp, "signer": r.Spec.SignerName, "user": r.Spec.Username,
				"conditions": r.Status.Conditions, "issued": len(r.Status.Certificate) > 0,
			})
		}
		return indented(all)
	})
	return nil
}
