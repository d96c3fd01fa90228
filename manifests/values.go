package manifests

import (
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Values are what may differ from cluster to cluster; they are those of the Helm
// chart, whose values.yaml says what each means. DefaultValues gives those there.
type Values struct {
	Image              string                      `json:"image"`
	ImagePullPolicy    corev1.PullPolicy           `json:"imagePullPolicy"`
	AdvertiseAddresses []string                    `json:"advertiseAddresses"`
	NodeAddress        string                      `json:"nodeAddress"`
	Service            ServiceValues               `json:"service"`
	NodeSelector       map[string]string           `json:"nodeSelector"`
	Tolerations        []corev1.Toleration         `json:"tolerations"`
	Resources          corev1.ResourceRequirements `json:"resources"`
	ExtraArgs          []string                    `json:"extraArgs"`
	PodPolicy          bool                        `json:"podPolicy"`
}

// ServiceValues say how edges come to the proxy's Service.
type ServiceValues struct {
	Type        corev1.ServiceType `json:"type"`
	Annotations map[string]string  `json:"annotations"`
	NodePort    int32              `json:"nodePort"` // 0 lets the cluster choose
}

// DefaultValues are those of values.yaml. AdvertiseAddresses are still missing.
func DefaultValues() (Values, error) { return defaultValues() }

// ValueError says which value breaks which rule.
type ValueError struct {
	Field, Reason string
}

// Error implements error.
func (e *ValueError) Error() string { return e.Field + " " + e.Reason }

// check refuses what would not come out of a template as it went in: templates paste
// text into YAML, and the proxy's flags are split at commas.
func (v *Values) check() error {
	if v.Image == "" {
		return &ValueError{"image", "is missing"}
	}
	word := func(field, s string) error {
		if ok, err := regexp.MatchString(`^[\x21-\x7e]+$`, s); err != nil || !ok {
			return &ValueError{field, fmt.Sprintf("%q is not a word", s)}
		}
		return nil
	}
	if err := word("image", v.Image); err != nil {
		return err
	}
	if len(v.AdvertiseAddresses) == 0 {
		return &ValueError{"advertiseAddresses", "is missing: edges need a name or an IP address under which they reach the proxy"}
	}
	for _, a := range v.AdvertiseAddresses {
		if err := CheckAddress(a); err != nil {
			return &ValueError{"advertiseAddresses", err.Error()}
		}
	}
	if err := word("nodeAddress", v.NodeAddress); err != nil {
		return err
	}
	switch v.Service.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
	default:
		return &ValueError{"service.type", fmt.Sprintf("%q is none of LoadBalancer, NodePort and ClusterIP", v.Service.Type)}
	}
	switch v.ImagePullPolicy {
	case corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		return &ValueError{"imagePullPolicy", fmt.Sprintf("%q is none of Always, IfNotPresent and Never", v.ImagePullPolicy)}
	}
	return nil
}

// CheckAddress checks a HOST or HOST:PORT of AdvertiseAddresses.
func CheckAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil { // no port, or an IPv6 address
		host, port = strings.Trim(s, "[]"), "7443"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: the port is not a number from 1 to 65535", s)
	}
	if net.ParseIP(host) != nil {
		return nil
	}
	if ok, err := regexp.MatchString(`^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$`, host); err != nil || !ok {
		return fmt.Errorf("%q is not HOST or HOST:PORT", s)
	}
	return nil
}

// tree gives the values as templates see them: what YAML or JSON would hold, with
// nothing left out.
func (v *Values) tree() (map[string]any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	for name, empty := range map[string]any{
		"nodeSelector": map[string]any{}, "tolerations": []any{}, "extraArgs": []any{}, "resources": map[string]any{},
	} {
		if tree[name] == nil {
			tree[name] = empty
		}
	}
	if service, ok := tree["service"].(map[string]any); ok && service["annotations"] == nil {
		service["annotations"] = map[string]any{}
	}
	return tree, nil
}
