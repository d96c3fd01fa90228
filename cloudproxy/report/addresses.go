package report

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// A strategic merge patch merges addresses by their type, and two addresses of
// one type, such as IPv4 and IPv6, then mix up. So the list is replaced as a whole,
// as kubelets do.

func withoutAddresses(s corev1.NodeStatus) corev1.NodeStatus {
	s.Addresses = nil
	return s
}

// withAddresses adds to a patch the replacement of addresses, if they differ.
func withAddresses(patch []byte, before, after []corev1.NodeAddress) ([]byte, error) {
	if equality.Semantic.DeepEqual(before, after) {
		return patch, nil
	}
	var doc map[string]any
	if err := json.Unmarshal(patch, &doc); err != nil {
		return nil, fmt.Errorf("decode patch: %w", err)
	}
	status, ok := doc["status"].(map[string]any)
	if !ok {
		status = make(map[string]any)
		doc["status"] = status
	}
	list := []any{map[string]any{"$patch": "replace"}}
	for _, a := range after {
		list = append(list, a)
	}
	status["addresses"] = list
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	return b, nil
}
