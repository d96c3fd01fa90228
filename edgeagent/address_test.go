package edgeagent

import (
	"net/netip"
	"testing"
)

// The API server takes at most one host address of each family in a pod's status.
func TestHostIPsOnePerFamily(t *testing.T) {
	seen := map[bool]string{}
	for _, s := range hostIPs() {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			t.Fatalf("%q is not an address: %v", s, err)
		}
		if before, ok := seen[ip.Is4()]; ok {
			t.Errorf("%s and %s are of one family", before, s)
		}
		seen[ip.Is4()] = s
	}
}
