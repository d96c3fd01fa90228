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
		{key: "tokens/a/b"},
		{key: "pods/a/b/c"},
		{key: "pods//b"},
		{key: "nodes/a/b"},
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
}
