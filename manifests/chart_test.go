package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"text/template"
	"text/template/parse"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// example are the values of the plain files.
func example(t *testing.T) Values {
	t.Helper()
	v, err := DefaultValues()
	if err != nil {
		t.Fatal(err)
	}
	v.AdvertiseAddresses = []string{"proxy.example.com:7443"}
	return v
}

// TestRenderIsThePlainFiles holds the three ways together: what the chart's templates
// give for its own values is what the files say as they are.
func TestRenderIsThePlainFiles(t *testing.T) {
	rendered, err := Render("", example(t))
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	for _, name := range parts() {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		plain.WriteString("---\n")
		plain.Write(data)
	}
	if d := cmp.Diff(decode(t, plain.Bytes()), decode(t, rendered)); d != "" {
		t.Error(d)
	}
	if strings.Contains(string(rendered), "chart: {{") {
		t.Error("a marker is left in what is rendered")
	}
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !slices.Contains(append(parts(), "Chart.yaml", "values.yaml"), name) {
			t.Errorf("%s is embedded and not installed", name)
		}
	}
}

func deployment(t *testing.T, data []byte) (*appsv1.Deployment, []*corev1.Service) {
	t.Helper()
	var d *appsv1.Deployment
	var services []*corev1.Service
	for _, obj := range decode(t, data) {
		switch o := obj.(type) {
		case *appsv1.Deployment:
			d = o
		case *corev1.Service:
			services = append(services, o)
		}
	}
	if d == nil || len(services) != 2 {
		t.Fatalf("Deployment %v, %d Services", d != nil, len(services))
	}
	return d, services
}

func TestRenderValues(t *testing.T) {
	v := example(t)
	v.Image = `registry.example:5000/a/cloudproxy@sha256:00`
	v.ImagePullPolicy = corev1.PullAlways
	v.AdvertiseAddresses = []string{"a.example", "[2001:db8::1]:443", "10.0.0.1:7443"}
	v.NodeAddress = "10.9.8.7:10250"
	v.Service = ServiceValues{Type: corev1.ServiceTypeNodePort, NodePort: 30743, Annotations: map[string]string{"x/y": `a "quoted" #word: {}`}}
	v.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}
	v.ExtraArgs = []string{"--log-level=debug", `--edge-metrics`}
	v.PodPolicy = false
	data, err := Render("edge-infra", v)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "kind: ValidatingAdmissionPolicy") || strings.Contains(string(data), defaultNamespace) {
		t.Error("the policy or the default namespace is there")
	}
	d, services := deployment(t, data)
	c := d.Spec.Template.Spec.Containers[0]
	want := []string{
		"--listen=:7443", "--advertise-address=a.example,[2001:db8::1]:443,10.0.0.1:7443", "--kubelet-listen=:10250",
		"--node-address=10.9.8.7:10250", "--admin-listen=:7480", "--namespace=edge-infra", "--max-memory=1Gi",
		"--log-level=debug", "--edge-metrics",
	}
	if diff := cmp.Diff(want, c.Args); diff != "" || c.Image != v.Image || c.ImagePullPolicy != v.ImagePullPolicy {
		t.Errorf("container %s %s: %s", c.Image, c.ImagePullPolicy, diff)
	}
	if diff := cmp.Diff(v.Tolerations, d.Spec.Template.Spec.Tolerations); diff != "" {
		t.Error(diff)
	}
	s := services[0]
	if diff := cmp.Diff(v.Service.Annotations, s.Annotations); diff != "" || s.Spec.Type != corev1.ServiceTypeNodePort {
		t.Errorf("service %s: %s", s.Spec.Type, diff)
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 30743 || p.Port != 7443 {
			t.Errorf("port %+v", p)
		}
	}
}

// TestRestricted is what the Pod Security Standard of that name asks.
func TestRestricted(t *testing.T) {
	data, err := Render("", example(t))
	if err != nil {
		t.Fatal(err)
	}
	d, services := deployment(t, data)
	pod := d.Spec.Template.Spec
	c := pod.Containers[0]
	if !*pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
		*c.SecurityContext.AllowPrivilegeEscalation || !*c.SecurityContext.ReadOnlyRootFilesystem ||
		!slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}) || pod.HostNetwork || len(pod.Volumes) > 0 {
		t.Errorf("pod %+v, container %+v", pod.SecurityContext, c.SecurityContext)
	}
	if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.Resources.Limits.Memory().IsZero() {
		t.Error("probes or limits are missing")
	}
	for _, s := range services {
		if diff := cmp.Diff(s.Spec.Selector, d.Spec.Template.Labels); diff != "" {
			t.Errorf("service %s selects other pods: %s", s.Name, diff)
		}
		for _, p := range s.Spec.Ports {
			if !slices.ContainsFunc(c.Ports, func(cp corev1.ContainerPort) bool {
				return cp.Name == p.TargetPort.StrVal && cp.Protocol == p.Protocol
			}) {
				t.Errorf("service %s: no port %s of the container", s.Name, p.TargetPort.StrVal)
			}
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	for field, change := range map[string]func(*Values){
		"image":              func(v *Values) { v.Image = "a b" },
		"advertiseAddresses": func(v *Values) { v.AdvertiseAddresses = nil },
		"nodeAddress":        func(v *Values) { v.NodeAddress = "" },
		"service.type":       func(v *Values) { v.Service.Type = "ExternalName" },
		"imagePullPolicy":    func(v *Values) { v.ImagePullPolicy = "Sometimes" },
	} {
		v := example(t)
		change(&v)
		_, err := Render("", v)
		if e, ok := errors.AsType[*ValueError](err); !ok || e.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
	for _, a := range []string{"", ":1", "a:", "a:0", "a:65536", "a b", "a,b", "a\nb", "a:1:2", "-a", `a"`} {
		if err := CheckAddress(a); err == nil {
			t.Errorf("address %q is taken", a)
		}
	}
	for _, a := range []string{"a", "a.b:1", "10.0.0.1", "2001:db8::1", "[2001:db8::1]:7443"} {
		if err := CheckAddress(a); err != nil {
			t.Error(err)
		}
	}
}

// TestChart reads the chart as Helm would: its files, and that its templates use no
// function that Helm lacks.
func TestChart(t *testing.T) {
	chart, err := Chart("v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string][]byte{}
	for _, f := range chart {
		byName[f.Name] = f.Data
	}
	var meta struct{ APIVersion, Name, Version, AppVersion string }
	if err := yaml.Unmarshal(byName["Chart.yaml"], &meta); err != nil {
		t.Fatal(err)
	}
	if meta.APIVersion != "v2" || meta.Version != "1.2.3" || meta.AppVersion != "v1.2.3" {
		t.Errorf("Chart.yaml says %+v", meta)
	}
	var values map[string]any
	if err := yaml.Unmarshal(byName["values.yaml"], &values); err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Required   []string
		Properties map[string]any
	}
	if err := json.Unmarshal(byName["values.schema.json"], &schema); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(maps.Keys(values))
	delete(schema.Properties, "global") // Helm's own
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(schema.Properties))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(want, slices.Sorted(slices.Values(schema.Required))); d != "" {
		t.Error(d)
	}
	helm := map[string]bool{"quote": true, "join": true, "toJson": true, "printf": true}
	for name, data := range byName {
		if !strings.HasPrefix(name, "templates/") {
			continue
		}
		if strings.Contains(string(data), defaultNamespace) {
			t.Errorf("%s names a namespace", name)
		}
		funcs := template.FuncMap{"quote": func() string { return "" }, "join": func() string { return "" }, "toJson": func() string { return "" }}
		tree, err := template.New(name).Funcs(funcs).Parse(string(data))
		if err != nil {
			t.Fatal(err)
		}
		walk(tree.Root, func(fn string) {
			if !helm[fn] {
				t.Errorf("%s uses %s", name, fn)
			}
		})
	}
	if byName["templates/namespace.yaml"] != nil {
		t.Error("the chart makes the namespace that it is installed in")
	}
	for in, want := range map[string]string{"": "0.0.0", "abc": "0.0.0", "v1.2.3-4-gabc": "1.2.3-4-gabc", "1.0.0": "1.0.0", "v1.2.3\nx: y": "0.0.0"} {
		if got := semantic(in); got != want {
			t.Errorf("version %q becomes %q, want %q", in, got, want)
		}
	}
}

// walk tells the functions that a template calls.
func walk(n parse.Node, tell func(string)) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, child := range n.Nodes {
			walk(child, tell)
		}
	case *parse.ActionNode:
		walk(n.Pipe, tell)
	case *parse.IfNode:
		walk(n.Pipe, tell)
		walk(n.List, tell)
		walk(n.ElseList, tell)
	case *parse.RangeNode:
		walk(n.Pipe, tell)
		walk(n.List, tell)
	case *parse.PipeNode:
		for _, cmd := range n.Cmds {
			for _, arg := range cmd.Args {
				walk(arg, tell)
			}
		}
	case *parse.IdentifierNode:
		tell(n.Ident)
	}
}
