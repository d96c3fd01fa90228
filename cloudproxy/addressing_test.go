package cloudproxy

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"
)

// clusterVersion is a cluster that says what it is.
type clusterVersion string

func (v clusterVersion) ServerVersion() (*version.Info, error) {
	if v == "" {
		return nil, errors.New("away")
	}
	return &version.Info{GitVersion: string(v)}, nil
}

func TestNodeAddresses(t *testing.T) {
	ip := corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}
	host := corev1.NodeAddress{Type: corev1.NodeHostName, Address: "192.0.2.1"}
	both := []corev1.NodeAddress{ip, host}
	tests := []struct {
		how     Addressing
		cluster clusterVersion
		want    []corev1.NodeAddress
	}{
		{AddressingAuto, "v1.37.2", both},
		{AddressingAuto, "v1.37.2-eks-1234", both},
		{AddressingAuto, "v1.37.2+k0s.0", both},
		{AddressingAuto, "v1.37.2+k3s1", []corev1.NodeAddress{host}},
		{AddressingAuto, "v1.37.2+rke2r1", []corev1.NodeAddress{host}},
		{AddressingPorts, "v1.37.2+k3s1", []corev1.NodeAddress{host}},
		{AddressingPorts, "v1.37.2", both},
		{AddressingShared, "v1.37.2+k3s1", both},
		{AddressingAuto, "", nil},
	}
	for _, tt := range tests {
		s := &Server{cfg: Config{NodeAddressing: tt.how}, log: slog.New(slog.DiscardHandler)}
		s.addr.node = netip.MustParseAddrPort("192.0.2.1:10250")
		if err := s.learnCluster(tt.cluster); (err != nil) != (tt.want == nil) {
			t.Errorf("%s on %q: %v", tt.how, tt.cluster, err)
		}
		if d := cmp.Diff(tt.want, s.nodeAddresses); d != "" {
			t.Errorf("%s on %q (-want +got):\n%s", tt.how, tt.cluster, d)
		}
	}
}

func TestNodeFeatures(t *testing.T) {
	for cluster, want := range map[string]bool{
		"v1.30.4": false, "v1.35.9": false, "v1.36.0": true, "v1.36.1-gke.1057001": true, "v1.37.2+k3s1": true, "v2.0.0": true, "": false, "dev": false,
	} {
		got := nodeFeatures(cluster)
		if want && !slices.Equal(got, []string{"ExtendWebSocketsToKubelet"}) || !want && len(got) > 0 {
			t.Errorf("%q: %v", cluster, got)
		}
	}
}
