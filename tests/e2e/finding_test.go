package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// addressOf is where a Node says that its kubelet is.
func addressOf(t *testing.T, name string) (string, error) {
	t.Helper()
	r := try(t, "get", "node", name, "-o", "json")
	if r.err != nil {
		return "", r.err
	}
	var node corev1.Node
	if err := json.Unmarshal([]byte(r.out), &node); err != nil {
		return "", err
	}
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return net.JoinHostPort(a.Address, strconv.Itoa(int(node.Status.DaemonEndpoints.KubeletEndpoint.Port))), nil
		}
	}
	return "", errors.New("no InternalIP")
}

// TestServingCertificate: what kube-apiserver verifies by
// --kubelet-certificate-authority is of the cluster's CA.
func TestServingCertificate(t *testing.T) {
	t.Parallel()
	addr, err := addressOf(t, edge1.Name)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(readFile(t, theLab.Path("cluster", "pki", "ca.crt"))))
	eventually(t, "a certificate of the cluster's CA", func() error {
		c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: pool}}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	})
	out := kubectl(t, "get", "csr", "-o", `jsonpath={range .items[?(@.spec.signerName=="kubernetes.io/kubelet-serving")]}{.spec.username} {.status.conditions[*].type}{"\n"}{end}`)
	if want := "system:serviceaccount:skerry-system:cloudproxy Approved\n"; out != want {
		t.Errorf("requests %q, want %q", out, want)
	}
}

// TestNodePorts gives each edge a port and takes them away again.
func TestNodePorts(t *testing.T) {
	ns := newNamespace(t)
	runPod(t, newPod(ns, "p", edge1, shell("main", "echo hello; "+idle)))
	second := newEdge(t)
	runPod(t, newPod(ns, "q", second, shell("main", "echo other; "+idle)))
	shared, err := addressOf(t, edge1.Name)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		must(t, theLab.RestartProxy(ctx))
		must(t, edge1.WaitReady(ctx, patience))
	})
	must(t, theLab.RestartProxy(t.Context(), "--node-addressing", "ports", "--node-ports", theLab.NodePorts()))
	own := map[string]string{}
	for _, name := range []string{edge1.Name, second.Name} {
		eventually(t, "a port for "+name, func() (err error) {
			if own[name], err = addressOf(t, name); err == nil && own[name] == shared {
				err = errors.New("it has the shared one")
			}
			return err
		})
	}
	if own[edge1.Name] == own[second.Name] {
		t.Fatalf("both edges have %s", own[second.Name])
	}
	for pod, want := range map[string]string{"p": "hello\n", "q": "other\n"} {
		eventually(t, "logs of "+pod, func() error {
			r := try(t, "-n", ns, "logs", pod)
			if r.err == nil && r.out != want {
				return fmt.Errorf("got %q", r.out)
			}
			return r.err
		})
		execWorks(t, ns, pod)
	}
	if got := kubectl(t, "get", "--raw", "/api/v1/nodes/"+second.Name+"/proxy/healthz"); got != "ok" {
		t.Errorf("healthz: %q", got)
	}
	if got, err := status(t, second.Name); err != nil || got.State != "connected" {
		t.Errorf("status %+v, %v", got, err)
	}
	// One edge's path is none to the pods of the other.
	r := try(t, "get", "--raw", "/api/v1/nodes/"+second.Name+"/proxy/containerLogs/"+ns+"/p/main")
	if r.err == nil || !strings.Contains(r.stderr, "(NotFound)") {
		t.Errorf("a pod of %s through %s: %q, %v", edge1.Name, second.Name, r.out, r.err)
	}

	before := own[second.Name]
	must(t, theLab.RestartProxy(t.Context(), "--node-addressing", "ports", "--node-ports", theLab.NodePorts()))
	execWorks(t, ns, "q")
	if after, err := addressOf(t, second.Name); err != nil || after != before {
		t.Errorf("after a restart the address is %s, %v, was %s", after, err, before)
	}
}
