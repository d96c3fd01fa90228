package edgeagent

import (
	"testing"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

func TestUnready(t *testing.T) {
	tests := []struct {
		name   string
		health cri.Health
		want   string
	}{
		{"ready", cri.Health{RuntimeReady: true, NetworkReady: true}, ""},
		{"no network", cri.Health{RuntimeReady: true, Reason: "NetworkReady: NoCNI no config"}, "NetworkReady: NoCNI no config"},
		{"silent", cri.Health{}, "it does not say that it and its network are ready"},
	}
	for _, tt := range tests {
		got := ""
		if err := unready(tt.health); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
