package v1alpha1

import "slices"

// SecretNames gives the Secrets of the Device's namespace that a spec names, each
// once, in order.
func (s *DeviceSpec) SecretNames() []string {
	var names []string
	if o := s.Protocol.OPCUA; o != nil {
		if o.User != nil && o.User.SecretName != "" {
			names = append(names, o.User.SecretName)
		}
		if o.Trust != nil && o.Trust.SecretName != "" {
			names = append(names, o.Trust.SecretName)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
