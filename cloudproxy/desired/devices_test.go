package desired

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDoubtfulDevice: a cache that is behind is not believed.
func TestDoubtfulDevice(t *testing.T) {
	d := &defined{ObjectMeta: metav1.ObjectMeta{UID: "u", Generation: 7}, node: "e1"}
	for _, tt := range []struct {
		name    string
		cached  *defined
		version string
		node    string
		want    bool
	}{
		{"the same", d, "u/7", "e1", false},
		{"later", d, "u/6", "e1", false},
		{"earlier", d, "u/8", "e1", true},
		{"of another node", d, "u/7", "e2", true},
		{"another of the name", d, "v/7", "e1", true},
		{"none", nil, "u/7", "e1", true},
		{"no version of ours", d, "u/x", "e1", true},
	} {
		if got := tt.cached.doubtful(tt.version, tt.node); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}
