package wire

import "testing"

func TestKeys(t *testing.T) {
	tests := []struct {
		key                 string
		resource            Resource
		namespace, name, id string
		ok                  bool
	}{
		{key: "pods/default/web-0", resource: ResourcePods, namespace: "default", name: "web-0", ok: true},
		{key: "secrets/a/b", resource: ResourceSecrets, namespace: "a", name: "b", ok: true},
		{key: "tokens/a/b/0011223344556677", resource: ResourceTokens, namespace: "a", name: "b", id: "0011223344556677", ok: true},
		{key: "services/default/kubernetes", resource: ResourceServices, namespace: "default", name: "kubernetes", ok: true},
		{key: "servicelinks/shop", resource: ResourceServiceLinks, name: "shop", ok: true},
		{key: "servicelinks/shop/web"},
		{key: "podcertificaterequests/a/b", resource: ResourceCertificates, namespace: "a", name: "b", ok: true},
		{key: "podcertificaterequests/a"},
		{key: "tokens/a/b"},
		{key: "pods/a/b/c"},
		{key: "pods//b"},
		{key: "nodes/a/b"},
		{key: "nodes/edge-1", resource: ResourceNodes, name: "edge-1", ok: true},
		{key: ""},
	}
	for _, tt := range tests {
		r, ns, name, id, ok := SplitKey(tt.key)
		if r != tt.resource || ns != tt.namespace || name != tt.name || id != tt.id || ok != tt.ok {
			t.Errorf("SplitKey(%q) = %q %q %q %q %v", tt.key, r, ns, name, id, ok)
		}
		switch {
		case !ok:
		case id != "":
			if got := TokenKey(ns, name, id); got != tt.key {
				t.Errorf("TokenKey = %q, want %q", got, tt.key)
			}
		case ns == "":
			if got := ClusterKey(r, name); got != tt.key {
				t.Errorf("ClusterKey = %q, want %q", got, tt.key)
			}
		default:
			if got := ObjectKey(r, ns, name); got != tt.key {
				t.Errorf("ObjectKey = %q, want %q", got, tt.key)
			}
		}
	}
	// printf 'uid-1\nhttps://kubernetes.default.svc\n3607' | sha256sum
	if got, want := TokenID("uid-1", "https://kubernetes.default.svc", 3607), "c889e9203b7f3b78"; got != want {
		t.Errorf("TokenID = %s, want %s", got, want)
	}
	// printf request | sha256sum
	if got, want := CertificateRequestName([]byte("request")), "skerry-1f58b9145b24d108d7ac38887338b3ea"; got != want {
		t.Errorf("CertificateRequestName = %s, want %s", got, want)
	}
	if got, want := CertificateKey("ns", "web", "id", 2), "podcertificates/ns/web/id/2"; got != want {
		t.Errorf("CertificateKey = %s, want %s", got, want)
	}
}
