package pods

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

func TestLimitDNS(t *testing.T) {
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprint("d", i))
	}
	long := []string{strings.Repeat("a", 1000), strings.Repeat("b", 1000), strings.Repeat("c", 46), "d"}
	for _, tt := range []struct {
		name     string
		in, want cri.DNSConfig
		warnings int
	}{
		{"within", cri.DNSConfig{Servers: many[:3], Searches: many[:32]}, cri.DNSConfig{Servers: many[:3], Searches: many[:32]}, 0},
		{"servers", cri.DNSConfig{Servers: many[:4]}, cri.DNSConfig{Servers: many[:3]}, 1},
		{"searches", cri.DNSConfig{Searches: many}, cri.DNSConfig{Searches: many[:32]}, 1},
		{"characters", cri.DNSConfig{Searches: long[:3]}, cri.DNSConfig{Searches: long[:3]}, 0},
		{"too many characters", cri.DNSConfig{Searches: long}, cri.DNSConfig{Searches: long[:3]}, 1},
		{"both", cri.DNSConfig{Servers: many, Searches: many}, cri.DNSConfig{Servers: many[:3], Searches: many[:32]}, 2},
	} {
		got := tt.in
		warnings := limitDNS(&got)
		if d := cmp.Diff(tt.want, got); d != "" || len(warnings) != tt.warnings {
			t.Errorf("%s: %v\n%s", tt.name, warnings, d)
		}
	}
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p", func(p *corev1.Pod) {
			p.Spec.DNSPolicy, p.Spec.DNSConfig = corev1.DNSNone, &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"}}
		}))
	}, func(b *bubble) {
		pass(0)
		const want = "DNSConfigForming"
		if got := strings.Join(b.rec.events, "\n"); strings.Count(got, want) != 1 {
			t.Errorf("events\n%s\nwant one %s", got, want)
		}
	})
}
