package staticpods

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods"
)

const good = `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: main
    image: nginx
`

func TestParseRefuses(t *testing.T) {
	spec := func(s string) string { return good + s }
	for name, tt := range map[string]struct{ text, want string }{
		"no YAML":         {"{", "line 1"},
		"unknown key":     {strings.Replace(good, "image:", "imagee:", 1), `unknown field "imagee"`},
		"another kind":    {strings.Replace(good, "Pod", "Service", 1), `it is "Service" of "v1", not Pod of v1`},
		"two documents":   {good + "---\n" + good, "more than one document"},
		"no name":         {strings.Replace(good, "name: web", "labels: {}", 1), "metadata.name: is missing"},
		"bad name":        {strings.Replace(good, "web", "Web", 1), `metadata.name: "Web"`},
		"no containers":   {"apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n", "spec.containers: is missing"},
		"no image":        {strings.Replace(good, "    image: nginx\n", "", 1), "spec.containers[0].image: is missing"},
		"twice":           {spec("  - name: main\n    image: x\n"), `spec.containers[1].name: "main" is there twice`},
		"account":         {spec("  serviceAccountName: x\n"), "spec.serviceAccountName: a static pod"},
		"pull secret":     {spec("  imagePullSecrets: [{name: x}]\n"), "spec.imagePullSecrets"},
		"Secret":          {spec("  volumes: [{name: v, secret: {secretName: x}}]\n"), "spec.volumes[0]: a static pod has emptyDir"},
		"token":           {spec("  volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: x}}]}}]\n"), "spec.volumes[0]"},
		"variables":       {spec("    envFrom: [{configMapRef: {name: x}}]\n"), "spec.containers[0].envFrom"},
		"variable":        {spec("    env: [{name: A, valueFrom: {secretKeyRef: {name: x, key: y}}}]\n"), "spec.containers[0].env[0].valueFrom"},
		"no such volume":  {spec("    volumeMounts: [{name: v, mountPath: /v}]\n"), `volumeMounts[0].name: there is no volume "v"`},
		"restart policy":  {spec("  restartPolicy: Sometimes\n"), `"Sometimes" is not Always`},
		"quantity":        {spec("    resources: {limits: {cpu: lots}}\n"), "quantit"},
		"host network":    {spec("  hostUsers: false\n  hostNetwork: true\n"), "spec.hostNetwork: is forbidden when `hostUsers` is false"},
		"host processes":  {spec("  hostUsers: false\n  hostPID: true\n"), "spec.hostPID: is forbidden when `hostUsers` is false"},
		"host IPC":        {spec("  hostUsers: false\n  hostIPC: true\n"), "spec.hostIPC: is forbidden when `hostUsers` is false"},
		"debug container": {spec("  ephemeralContainers: [{name: x, image: y}]\n"), "spec.ephemeralContainers"},
	} {
		if _, err := parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestPlace(t *testing.T) {
	placed := func(text, node, file string) *corev1.Pod {
		pod, err := parse([]byte(text))
		if err == nil {
			pod, err = place(pod, node, file, time.Unix(7, 0))
		}
		if err != nil {
			t.Fatal(err)
		}
		return pod
	}
	p := placed(good, "Edge-1", "a.yaml")
	if p.Name != "web-edge-1" || p.Namespace != "default" || p.Annotations[pods.AnnotationSource] != pods.SourceFile || p.Spec.NodeName != "Edge-1" || len(p.UID) != 32 {
		t.Errorf("%+v", p.ObjectMeta)
	}
	if s := p.Spec; s.RestartPolicy != corev1.RestartPolicyAlways || s.DNSPolicy != corev1.DNSClusterFirst || *s.TerminationGracePeriodSeconds != 30 ||
		s.Containers[0].TerminationMessagePath != "/dev/termination-log" {
		t.Errorf("defaults: %+v", s)
	}
	for name, other := range map[string]*corev1.Pod{
		"another node": placed(good, "edge-2", "a.yaml"),
		"another file": placed(good, "Edge-1", "b.yaml"),
		"another text": placed(strings.Replace(good, "nginx", "nginx:2", 1), "Edge-1", "a.yaml"),
	} {
		if other.UID == p.UID {
			t.Errorf("%s has the same UID", name)
		}
	}
	if same := placed("# a comment\n"+good, "Edge-1", "a.yaml"); same.UID != p.UID {
		t.Error("a comment makes another pod")
	}
	json := `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web"},"spec":{"containers":[{"name":"main","image":"nginx"}]}}`
	if same := placed(json, "Edge-1", "a.yaml"); same.UID != p.UID {
		t.Error("JSON makes another pod")
	}
}

// TestPlaceLarge has pods that no report could hold: the cloud would never hear of them.
func TestPlaceLarge(t *testing.T) {
	large := strings.Repeat("a", maxPod)
	for name, tt := range map[string]struct{ annotation, want string }{
		"text of its own": {"example.com/text", "it has"},
		"kubectl's copy":  {corev1.LastAppliedConfigAnnotation, ""},
	} {
		text := strings.Replace(good, "metadata:", "metadata:\n  annotations: {\""+tt.annotation+"\": "+large+"}", 1)
		pod, err := parse([]byte(text))
		if err == nil {
			pod, err = place(pod, "n", "a.yaml", time.Unix(7, 0))
		}
		if tt.want == "" {
			if err != nil || pod.Size() > maxPod {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 200 {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestSource(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "manifests")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		woken := make(chan string, 10)
		told := make(chan map[string]string, 10)
		s, err := New(Config{
			Dir: dir, NodeName: "n", Wake: func(key string) { woken <- key },
			Changed: func(uids map[string]string) { told <- uids },
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		ctx := t.Context()
		go func() { done <- s.Run(ctx) }()
		expect := func(step, keys string, problems ...string) {
			t.Helper()
			time.Sleep(pollInterval + time.Millisecond) //nolint:forbidigo // virtual time
			synctest.Wait()
			var got []string
			for len(woken) > 0 {
				got = append(got, <-woken)
			}
			if strings.Join(got, " ") != keys {
				t.Errorf("%s: woken %v, want %q", step, got, keys)
			}
			if news := keys != "" || step == "no folder"; news != (len(told) == 1) {
				t.Errorf("%s: told %d times which pods there are", step, len(told))
			} else if news {
				uids := <-told
				for _, pod := range s.Pods() {
					if uids["pods/default/"+pod.Name] != string(pod.UID) || len(uids) != len(s.Pods()) {
						t.Errorf("%s: told %v", step, uids)
					}
				}
			}
			p := s.Problems()
			if len(p) != len(problems) || slices.ContainsFunc(problems, func(want string) bool { return !strings.Contains(strings.Join(p, "\n"), want) }) {
				t.Errorf("%s: problems %q, want %q", step, p, problems)
			}
		}
		expect("no folder", "")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write("a.yaml", good)
		write(".hidden.yaml", "{")
		write("notes.txt", "{")
		expect("a file", "pods/default/web-n")
		first, ok := s.Pod("pods/default/web-n")
		if !ok {
			t.Fatal("no pod")
		}
		expect("nothing new", "")
		write("bad.yaml", "kind: [")
		write("same.yaml", good)
		write("two.json", strings.ReplaceAll(good, "web", "two"))
		expect("more files", "pods/default/two-n", "bad.yaml", "same.yaml: pod default/web-n is that of a.yaml too")
		write("a.yaml", good+"  nonsense: 1\n")
		expect("broken", "", "a.yaml: unknown field", "bad.yaml", "same.yaml")
		if now, _ := s.Pod("pods/default/web-n"); now != first {
			t.Error("a broken file has changed its pod")
		}
		write("a.yaml", strings.Replace(good, "nginx", "nginx:2", 1))
		expect("changed", "pods/default/web-n", "bad.yaml", "same.yaml")
		if now, _ := s.Pod("pods/default/web-n"); now.UID == first.UID {
			t.Error("a changed file is the same pod")
		}
		for _, name := range []string{"bad.yaml", "two.json", "a.yaml"} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		expect("removed", "pods/default/two-n pods/default/web-n")
		if err := os.Chmod(filepath.Join(dir, "same.yaml"), 0o666); err != nil {
			t.Fatal(err)
		}
		expect("writable by all", "", "same.yaml: mode -rw-rw-rw-")
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		expect("folder writable by all", "", "whoever puts a pod here is root", "same.yaml")
		if len(s.Pods()) != 1 {
			t.Errorf("%d pods", len(s.Pods()))
		}
	})
}

// Which pods there are is told before they start, and before one that is gone ends: what
// they then say of themselves is judged by it.
func TestSourceTellsBeforeItWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		said := make(chan string, 10)
		s, err := New(Config{
			Dir: dir, NodeName: "n", Wake: func(key string) { said <- "wake " + key },
			Changed: func(uids map[string]string) { said <- fmt.Sprint(len(uids), " pods") },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		go func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		if got := <-said; got != "0 pods" {
			t.Error(got)
		}
		file := filepath.Join(dir, "a.yaml")
		if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
		if a, b := <-said, <-said; a != "1 pods" || b != "wake pods/default/web-n" {
			t.Errorf("a file: %s, then %s", a, b)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if a, b := <-said, <-said; a != "0 pods" || b != "wake pods/default/web-n" {
			t.Errorf("no file: %s, then %s", a, b)
		}
	})
}

// desiredFake is the store's part.
type desiredFake struct {
	pods.Objects
	list []*corev1.Pod
	err  error
}

func (d desiredFake) Pods() ([]*corev1.Pod, error)    { return d.list, d.err }
func (d desiredFake) Pod(string) (*corev1.Pod, error) { return d.list[0], nil }

func TestObjects(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Dir: dir, NodeName: "n"})
	if err != nil {
		t.Fatal(err)
	}
	pod := func(name string) *corev1.Pod {
		p := &corev1.Pod{}
		p.Namespace, p.Name = "default", name
		return p
	}
	o := Objects{Objects: desiredFake{list: []*corev1.Pod{pod("other"), pod("web-n")}}, Source: s}
	if list, err := o.Pods(); err != nil || len(list) != 2 || list[0].UID == "" || list[1].Name != "other" {
		t.Errorf("pods %v, %v", list, err)
	}
	if p, err := o.Pod("pods/default/web-n"); err != nil || p.UID == "" {
		t.Errorf("pod %v, %v", p, err)
	}
	if p, err := o.Pod("pods/default/other"); err != nil || p.Name != "other" {
		t.Errorf("pod %v, %v", p, err)
	}
	never := errors.New("never synced")
	o.Objects = desiredFake{err: never}
	if list, err := o.Pods(); !errors.Is(err, never) || len(list) != 1 {
		t.Errorf("without a cloud: %v, %v", list, err)
	}
}
