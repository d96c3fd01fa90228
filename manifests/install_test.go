package manifests

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"
)

// decode parses every document into its type; an unknown or double key fails.
func decode(t *testing.T, data []byte) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, rbacv1.AddToScheme, admissionv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for doc := range bytes.SplitSeq(data, []byte("---\n")) {
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		if bytes.Contains(doc, []byte("\nkind: CustomResourceDefinition\n")) { // tests/helm has the types for it
			var crd unstructured.Unstructured
			if err := yaml.UnmarshalStrict(doc, &crd.Object); err != nil {
				t.Fatalf("%v in\n%s", err, doc)
			}
			objects = append(objects, &crd)
			continue
		}
		obj, _, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		objects = append(objects, obj)
	}
	return objects
}

func TestInstall(t *testing.T) {
	data, err := Install("edge-infra")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), defaultNamespace) {
		t.Error("the default namespace is left somewhere")
	}
	objects := decode(t, data)
	if ns, ok := objects[0].(*corev1.Namespace); !ok || ns.Name != "edge-infra" {
		t.Errorf("first comes %T, want the namespace", objects[0])
	}
	roles := map[string]bool{"Role/kube-system/extension-apiserver-authentication-reader": true} // the cluster's own
	for _, obj := range objects {
		switch o := obj.(type) {
		case *rbacv1.ClusterRole:
			roles["ClusterRole//"+o.Name] = true
		case *rbacv1.Role:
			roles["Role/"+o.Namespace+"/"+o.Name] = true
		}
	}
	check := func(namespace string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		t.Helper()
		if ref.Kind == "ClusterRole" {
			namespace = ""
		}
		if key := ref.Kind + "/" + namespace + "/" + ref.Name; !roles[key] {
			t.Errorf("a binding names %s, which is not there", key)
		}
		want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "cloudproxy", Namespace: "edge-infra"}}
		if !slices.Equal(subjects, want) {
			t.Errorf("bound to %v; want %v", subjects, want)
		}
	}
	for _, obj := range objects {
		switch o := obj.(type) {
		case *rbacv1.ClusterRoleBinding:
			check("", o.RoleRef, o.Subjects)
		case *rbacv1.RoleBinding:
			check(o.Namespace, o.RoleRef, o.Subjects)
		}
	}
}

func TestNoWildcards(t *testing.T) {
	data, err := Install("")
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range decode(t, data) {
		var rules []rbacv1.PolicyRule
		switch o := obj.(type) {
		case *rbacv1.ClusterRole:
			rules = o.Rules
		case *rbacv1.Role:
			rules = o.Rules
		}
		for _, rule := range rules {
			all := slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs)
			for _, bad := range []string{"*", "bind", "escalate", "impersonate"} {
				if slices.Contains(all, bad) {
					t.Errorf("%T has %q in %v", obj, bad, rule)
				}
			}
		}
	}
}

// TestRights holds the rules against the requests that the code makes: with a verb
// too few an edge's report is tried again for ever, one too many is a risk.
func TestRights(t *testing.T) {
	data, err := Install("")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, obj := range decode(t, data) {
		var where string
		var rules []rbacv1.PolicyRule
		switch o := obj.(type) {
		case *rbacv1.ClusterRole:
			where, rules = "*", o.Rules
		case *rbacv1.Role:
			where, rules = o.Namespace, o.Rules
		}
		for _, rule := range rules {
			for _, resource := range rule.Resources {
				key := where + " " + strings.Join(append([]string{resource}, rule.ResourceNames...), " ")
				got[key] = strings.Join(rule.Verbs, " ")
			}
		}
	}
	want := map[string]string{
		"* nodes":                                 "get list watch create patch",
		"* nodes/status":                          "patch",
		"* pods":                                  "get list watch create patch delete",
		"* pods/status":                           "patch",
		"* configmaps":                            "list watch",
		"* secrets":                               "list watch",
		"* persistentvolumeclaims":                "list watch",
		"* persistentvolumes":                     "list watch",
		"* runtimeclasses":                        "list watch",
		"* services":                              "list watch",
		"* clustertrustbundles":                   "list watch",
		"* podcertificaterequests":                "list watch create",
		"* serviceaccounts":                       "get",
		"* serviceaccounts/token":                 "create",
		"* devices":                               "get list watch",
		"* devicemodels":                          "list watch",
		"* devices/status":                        "patch",
		"* events":                                "get create patch",
		"* tokenreviews":                          "create",
		"* subjectaccessreviews":                  "create",
		"* namespaces kube-system":                "get",
		"* certificatesigningrequests":            "get create",
		"* certificatesigningrequests/approval":   "update",
		"* signers kubernetes.io/kubelet-serving": "approve",
		"skerry-system secrets skerry-kubelet-serving": "get update",
		"skerry-system configmaps skerry-ports":        "get list watch update",
		"kube-node-lease leases":                       "get create patch",
		"kube-system secrets":                          "get list update delete",
		"skerry-system secrets":                        "create",
		"skerry-system configmaps":                     "create",
		"skerry-system secrets skerry-ca":              "get list watch",
		"skerry-system configmaps skerry-info":         "get update",
		"skerry-system configmaps skerry-revoked":      "get list watch",
	}
	if !maps.Equal(got, want) {
		t.Errorf("rights:\n got %v\nwant %v", got, want)
	}
}

func TestInstallRefusesWhatIsNoName(t *testing.T) {
	for _, ns := range []string{"A", "a b", "a\nkind: Pod", "-a", strings.Repeat("a", 64), "a.b"} {
		if _, err := Install(ns); err == nil {
			t.Errorf("Install(%q) worked", ns)
		}
	}
}
