package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilversion "k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/skerry-io/skerry/cmd/skerry/install"
	"github.com/skerry-io/skerry/manifests"
)

func TestInitPrint(t *testing.T) {
	out, err := execute(t, initCommand(&cluster{}), "--print", "--advertise-address", "edge.example.com", "--namespace", "edge-infra", "--image", "r.example/p:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kind: Namespace", "kind: Deployment", "- \"--advertise-address=edge.example.com:7443\"", "image: \"r.example/p:1\"", "namespace: edge-infra"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not print %s", want)
		}
	}
}

func TestInitUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"init", "--print"}, "--advertise-address HOST:PORT"},
		{[]string{"init", "--print", "--advertise-address", "a b"}, "is not HOST or HOST:PORT"},
		{[]string{"init", "--print", "--advertise-address", "a", "--service-type", "Magic"}, "service.type"},
		{[]string{"init", "--print", "--advertise-address", "a", "--namespace", "A"}, "not a DNS label"},
		{[]string{"doctor", "--edge", "--cloud"}, "edge cloud"},
	} {
		var out bytes.Buffer
		if code := exitCode(t.Context(), streams{in: strings.NewReader(""), out: &out, err: &out}, tt.args); code == 0 || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%v: exit %d, %s, want %q", tt.args, code, &out, tt.want)
		}
	}
	// Both spellings of the flag mean the same.
	var out bytes.Buffer
	args := []string{"init", "--kube-config", "/no/such/file"}
	if code := exitCode(t.Context(), streams{in: strings.NewReader(""), out: &out, err: &out}, args); code != exitFailed || !strings.Contains(out.String(), "/no/such/file") {
		t.Errorf("--kube-config: exit %d, %s", code, &out)
	}
}

// TestInitValues says what flags and an earlier run make of each other.
func TestInitValues(t *testing.T) {
	defaults, err := manifests.DefaultValues()
	if err != nil {
		t.Fatal(err)
	}
	earlier := defaults
	earlier.AdvertiseAddresses, earlier.ExtraArgs = []string{"old:7443"}, []string{"--edge-metrics"}
	tests := []struct {
		name  string
		args  []string
		base  manifests.Values
		again bool
		want  func(v *manifests.Values)
	}{
		{"nothing", nil, defaults, false, func(v *manifests.Values) { v.Image = imageName + ":dev" }},
		{"kept", nil, with(earlier, "r.example/p:1"), true, func(v *manifests.Values) {
			*v = with(earlier, "r.example/p:1")
		}},
		{"upgraded", nil, with(earlier, imageName+":old"), true, func(v *manifests.Values) { *v = with(earlier, imageName+":dev") }},
		{"changed", []string{"--advertise-address", "new,10.0.0.1:443", "--proxy-arg=--log-level=debug", "--image", "x"}, earlier, true, func(v *manifests.Values) {
			v.AdvertiseAddresses, v.ExtraArgs, v.Image = []string{"new:7443", "10.0.0.1:443"}, []string{"--log-level=debug"}, "x"
		}},
		{"node port", []string{"--advertise-address", "new:30743", "--image", "x"}, defaults, false, func(v *manifests.Values) {
			v.AdvertiseAddresses, v.Image = []string{"new:30743"}, "x"
			v.Service.Type, v.Service.NodePort = corev1.ServiceTypeNodePort, 30743
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &initialize{cluster: &cluster{}}
			cmd := initCommandFor(o)
			if err := cmd.ParseFlags(tt.args); err != nil {
				t.Fatal(err)
			}
			got, err := o.values(cmd, tt.base, tt.again)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults
			tt.want(&want)
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func with(v manifests.Values, image string) manifests.Values {
	v.Image = image
	return v
}

func node(name string, edge, ready bool, taints ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/os": "linux"}}}
	if edge {
		n.Labels["skerry.io/edge"] = "true"
	}
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	for _, key := range taints {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	}
	return n
}

// TestClusterChecks breaks what an installation needs, one at a time.
func TestClusterChecks(t *testing.T) {
	worker, edge := node("worker", false, true), node("edge", true, true)
	tests := []struct {
		name, version string
		allowed       bool
		objects       []runtime.Object
		want          string
	}{
		{"all is well", "v1.37.2", true, []runtime.Object{worker, edge}, "ok    a node can run the proxy: 1 can"},
		{"too old", "v1.26.9", true, []runtime.Object{worker}, "FAIL  the cluster answers, and is Kubernetes 1.27 or later: it is v1.26.9"},
		{"without policies", "v1.29.1+k3s1", true, []runtime.Object{worker}, "warn  the cluster answers"},
		{"no administrator", "v1.37.2", false, []runtime.Object{worker}, "FAIL  you may install: the kubeconfig's user is no administrator"},
		{"control plane only", "v1.37.2", true, []runtime.Object{node("cp", false, true, install.ControlPlaneTaint)}, "ok    a node can run the proxy: on control-plane nodes"},
		{"edges only", "v1.37.2", true, []runtime.Object{edge, node("down", false, false)}, "warn  a node can run the proxy: none is Ready"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := fake.NewClientset(tt.objects...)
			discovery, ok := client.Discovery().(*fakediscovery.FakeDiscovery)
			if !ok {
				t.Fatal("no fake discovery")
			}
			discovery.FakedServerVersion = &utilversion.Info{GitVersion: tt.version}
			client.PrependReactor("create", "selfsubjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, &authorizationv1.SelfSubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: tt.allowed}}, nil
			})
			var out strings.Builder
			v := manifests.Values{PodPolicy: true}
			examine(t.Context(), clusterChecks(&install.Cluster{Client: client, Namespace: "skerry-system"}, &v), func(line string) { out.WriteString(line + "\n") })
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("it does not say %q:\n%s", tt.want, &out)
			}
			if want := tt.version != "v1.29.1+k3s1"; v.PodPolicy != want {
				t.Errorf("policies %t", v.PodPolicy)
			}
		})
	}
}

func TestPluginName(t *testing.T) {
	for program, want := range map[string]string{"/usr/local/bin/kubectl-skerry": "kubectl skerry token create [flags]", "./skerry": "  skerry token create [flags]"} {
		var out bytes.Buffer
		s := streams{in: strings.NewReader(""), out: &out, err: &out}
		root := newRoot(s)
		asPlugin(root, program)
		if code := rootCode(context.WithoutCancel(t.Context()), root, s, []string{"token", "create", "--help"}); code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit %d, %s", program, code, &out)
		}
	}
	var out bytes.Buffer
	s := streams{in: strings.NewReader(""), out: &out, err: &out}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code := exitCode(t.Context(), s, []string{"completion", shell}); code != 0 || !strings.Contains(out.String(), "skerry") {
			t.Errorf("completion %s: exit %d", shell, code)
		}
	}
}
