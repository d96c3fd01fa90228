package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs"
)

// edgeEnds is a doctor of the machine m.
func edgeEnds(m *machine) *ends {
	return &ends{cluster: &cluster{}, agent: &agent{configDir: m.configDir}, unit: m.unit, host: m.host}
}

// TestDoctorOnEdge looks at a machine that has joined and whose agent does not run.
func TestDoctorOnEdge(t *testing.T) {
	c, _ := newCluster(t)
	line, err := execute(t, tokenCommand(c), "create")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	if out, err := m.join(t, line, "--node-name", "edge-1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := execute(t, doctorCommand(edgeEnds(m)), "--config-dir", m.configDir)
	if err == nil || !strings.Contains(err.Error(), "1 of 17 checks failed") {
		t.Errorf("got %v\n%s", err, out)
	}
	for _, want := range []string{
		"ok    the certificate is good: edge-1, until ", "FAIL  the agent answers: ask the edge agent: no edge agent runs", "warn  it has a session to the cloud",
		"ok    the container runtime answers", "ok    TCP reaches the cloud proxy", "ok    the clock is right", "warn  UDP reaches it",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	d := &edgeDoctor{ends: edgeEnds(m)}
	d.cfg.CertDir = filepath.Join(m.configDir, "pki")
	pair, err := certs.NewKeyPairFile(filepath.Join(d.cfg.CertDir, "edge.crt"), filepath.Join(d.cfg.CertDir, "edge.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pair.Current().Leaf
	for at, want := range map[time.Time]string{
		leaf.NotBefore.Add(time.Hour):   "",
		leaf.NotAfter.Add(-time.Hour):   "should have been renewed",
		leaf.NotAfter.Add(time.Hour):    "ran out",
		leaf.NotBefore.Add(-time.Hour):  "clock is behind",
		leaf.NotBefore.Add(time.Minute): "",
	} {
		if _, err := d.certificate(at); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("at %s: %v, want %q", at, err, want)
		}
	}
	// Nobody has joined: each line says something, and nothing fails otherwise.
	empty := newMachine(t)
	if out, err := execute(t, doctorCommand(edgeEnds(empty)), "--edge", "--config-dir", empty.configDir); err == nil || !strings.Contains(out, "run `skerry join` first") {
		t.Errorf("got %v\n%s", err, out)
	}
}

// TestBundleHoldsNoSecrets puts secrets where they get by accident.
func TestBundleHoldsNoSecrets(t *testing.T) {
	secrets := []string{
		"abcdef.0123456789abcdef", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJlMTIzNDU2Nzg5",
		"YWRtaW46aHVudGVyMg==", "correct-horse", "hunter2hunter2", "in-an-argument", "last-words",
	}
	b, err := newBundle()
	if err != nil {
		t.Fatal(err)
	}
	b.add("log.txt", []byte("joined with "+secrets[0]+"\n-----BEGIN EC PRIVATE KEY-----\n"+secrets[1]+"\n-----END EC PRIVATE KEY-----\n"+
		"token "+secrets[2]+"\nAuthorization: Basic "+secrets[3]+"\npassword="+secrets[4]+"\n{\"apiKey\": \""+secrets[5]+"\"}\nkept\n"))
	b.object("pod.yaml", func() (any, error) {
		return podState(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "kept-pod", Annotations: map[string]string{"x": secrets[5]}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "kept-container", Args: []string{secrets[6]}, Env: []corev1.EnvVar{{Name: "PASSWORD", Value: secrets[4]}},
			}}},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: secrets[7]}},
			}}},
		}), nil
	})
	b.try("missing", func() ([]byte, error) { return nil, errors.New("kept-error") })
	b.add("long", bytes.Repeat([]byte("x"), maxBundleFile+1))
	var out bytes.Buffer
	if err := b.write(&out, "folder", time.Now()); err != nil {
		t.Fatal(err)
	}
	all := untar(t, &out)
	for _, s := range secrets {
		if strings.Contains(all, s) {
			t.Errorf("%q is in the bundle", s)
		}
	}
	for _, kept := range []string{"kept\n", "kept-pod", "kept-container", "kept-error", "folder/missing.error"} {
		if !strings.Contains(all, kept) {
			t.Errorf("%q is not in the bundle", kept)
		}
	}
}

// untar gives names and contents as one text.
func untar(t *testing.T, r io.Reader) string {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(h.Name + "\n")
		if _, err := io.Copy(&all, tr); err != nil {
			t.Fatal(err)
		}
	}
}
