package pods

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

// testServices are those of namespace ns, and the API's.
type testServices struct{}

func (testServices) Service(namespace, name string) (*corev1.Service, error) {
	if namespace != "default" || name != "kubernetes" {
		return nil, ErrNotFound
	}
	return service("kubernetes", "10.96.0.1", corev1.ServicePort{Name: "https", Port: 443}), nil
}

func (testServices) ServiceLinks(namespace string) (*corev1.ServiceList, error) {
	if namespace != "ns" {
		return nil, ErrNotFound
	}
	return &corev1.ServiceList{Items: []corev1.Service{
		*service("db", "10.96.0.7", corev1.ServicePort{Port: 5432}),
		*service("my-dns", "fd00::5", corev1.ServicePort{Name: "dns-udp", Port: 53, Protocol: corev1.ProtocolUDP}, corev1.ServicePort{Name: "m", Port: 9}),
		*service("headless", "None", corev1.ServicePort{Port: 1}),
		*service("external", ""),
	}}, nil
}

func service(name, ip string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
}

// withoutServices leaves what is not of testServices, or was set by the pod.
func withoutServices(vars []cri.EnvVar) []cri.EnvVar {
	return slices.DeleteFunc(slices.Clone(vars), func(v cri.EnvVar) bool {
		of := strings.HasPrefix(v.Name, "KUBERNETES_") || strings.HasPrefix(v.Name, "DB_") || strings.HasPrefix(v.Name, "MY_DNS_")
		return of && !strings.HasPrefix(v.Value, "mine")
	})
}

func TestServiceVars(t *testing.T) {
	api := map[string]string{
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443",
		"KUBERNETES_PORT": "tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443",
		"KUBERNETES_PORT_443_TCP_PROTO": "tcp", "KUBERNETES_PORT_443_TCP_PORT": "443", "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
	}
	links := map[string]string{
		"DB_SERVICE_HOST": "10.96.0.7", "DB_SERVICE_PORT": "5432", "DB_PORT": "tcp://10.96.0.7:5432",
		"DB_PORT_5432_TCP": "tcp://10.96.0.7:5432", "DB_PORT_5432_TCP_PROTO": "tcp", "DB_PORT_5432_TCP_PORT": "5432",
		"DB_PORT_5432_TCP_ADDR": "10.96.0.7",
		"MY_DNS_SERVICE_HOST":   "fd00::5", "MY_DNS_SERVICE_PORT": "53", "MY_DNS_SERVICE_PORT_DNS_UDP": "53", "MY_DNS_SERVICE_PORT_M": "9",
		"MY_DNS_PORT": "udp://[fd00::5]:53", "MY_DNS_PORT_53_UDP": "udp://[fd00::5]:53", "MY_DNS_PORT_53_UDP_PROTO": "udp",
		"MY_DNS_PORT_53_UDP_PORT": "53", "MY_DNS_PORT_53_UDP_ADDR": "fd00::5", "MY_DNS_PORT_9_TCP": "tcp://[fd00::5]:9",
		"MY_DNS_PORT_9_TCP_PROTO": "tcp", "MY_DNS_PORT_9_TCP_PORT": "9", "MY_DNS_PORT_9_TCP_ADDR": "fd00::5",
	}
	all := map[string]string{}
	for _, part := range []map[string]string{api, links} {
		maps.Copy(all, part)
	}
	e := testEnv(t)
	for _, tt := range []struct {
		name, namespace string
		links           *bool
		want            map[string]string
	}{
		{"links", "ns", new(true), all},
		{"links by default", "ns", nil, all},
		{"no links", "ns", new(false), api},
		{"a namespace without services", "other", nil, api},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := newPod("p", func(p *corev1.Pod) { p.Namespace, p.Spec.EnableServiceLinks = tt.namespace, tt.links })
			got, err := e.serviceVars(pod)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	e.Services = noServices{}
	if got, err := e.serviceVars(newPod("p")); len(got) != 0 || err != nil {
		t.Errorf("before the first contact with a cloud: %v, %v", got, err)
	}
}

func TestEnvironment(t *testing.T) {
	e := testEnv(t)
	objects, ok := e.Objects.(*memObjects)
	if !ok {
		t.Fatal("not ours")
	}
	objects.configMaps["ns/cm"] = &corev1.ConfigMap{Data: map[string]string{"data-1": "one", "bad=key": "x"}}
	ref := corev1.LocalObjectReference{Name: "cm"}
	gone := corev1.LocalObjectReference{Name: "gone"}
	pod := newPod("p", func(p *corev1.Pod) { p.Spec.EnableServiceLinks = new(true) })
	c := &pod.Spec.Containers[0]
	c.EnvFrom = []corev1.EnvFromSource{
		{Prefix: "p-", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: gone, Optional: new(true)}},
	}
	c.Env = []corev1.EnvVar{
		{Name: "OWN", Value: "$(DB_PORT) $(p-data-1) $(LATER) $$(DB_PORT)"},
		{Name: "LATER", Value: "$(OWN)"},
		{Name: "DB_PORT", Value: "mine, not $(DB_PORT)"},
		{Name: "OPTIONAL", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref, Key: "no", Optional: new(true)}}},
	}
	got, err := e.environment(pod, c, downward.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	const own = "tcp://10.96.0.7:5432 one $(LATER) $(DB_PORT)"
	if d := cmp.Diff([]cri.EnvVar{
		{Name: "DB_PORT", Value: "mine, not tcp://10.96.0.7:5432"},
		{Name: "LATER", Value: own},
		{Name: "OWN", Value: own},
		{Name: "p-data-1", Value: "one"},
	}, withoutServices(got)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"echo", own, "$(NO)"}, expandAll([]string{"echo", "$(OWN)", "$(NO)"}, got)); d != "" {
		t.Error(d)
	}
	for want, src := range map[string]*corev1.EnvVarSource{
		`secret "gone" not found`:                     {SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: gone, Key: "k"}},
		"couldn't find key no in ConfigMap ns/cm":     {ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref, Key: "no"}},
		"unsupported fieldPath: status.containerized": {FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.containerized"}},
	} {
		c.Env = []corev1.EnvVar{{Name: "X", ValueFrom: src}}
		if _, err := e.environment(pod, c, downward.Facts{}); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
