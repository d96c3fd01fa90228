package opcua

import (
	"errors"
	"testing"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// TestPolicies: a Device says a policy by its name, the wire by its URI, and the two
// are not spelled alike.
func TestPolicies(t *testing.T) {
	for name, want := range map[v1alpha1.SecurityPolicy]string{
		"": "", v1alpha1.PolicyBest: "", v1alpha1.PolicyNone: ua.SecurityPolicyURINone, v1alpha1.PolicyBasic256Sha256: ua.SecurityPolicyURIBasic256Sha256,
		v1alpha1.PolicyAes128Sha256RsaOaep: ua.SecurityPolicyURIAes128Sha256RsaOaep, v1alpha1.PolicyAes256Sha256RsaPss: ua.SecurityPolicyURIAes256Sha256RsaPss,
	} {
		dev := &devices.Device{Spec: v1alpha1.DeviceSpec{Protocol: v1alpha1.Protocol{OPCUA: &v1alpha1.OPCUA{URL: "opc.tcp://x", SecurityPolicy: name}}}}
		s, err := parse(dev)
		if err != nil || s.server.want.Policy != want {
			t.Errorf("policy %q: %v, want %s", name, err, want)
		}
		dev.Spec.Protocol.OPCUA.SecurityPolicy = "Basic128Rsa15"
		if _, err := parse(dev); !errors.As(err, new(*devices.ConfigError)) {
			t.Errorf("a policy that is not used: %v", err)
		}
	}
}
