package eviction

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that can run short.
type Signal string

// The signals, by the kubelet's names.
const (
	MemoryAvailable  Signal = "memory.available"
	NodeFSAvailable  Signal = "nodefs.available"
	NodeFSInodes     Signal = "nodefs.inodesFree"
	ImageFSAvailable Signal = "imagefs.available"
	ImageFSInodes    Signal = "imagefs.inodesFree"
	PIDAvailable     Signal = "pid.available"
)

// What is reclaimed for inodes and process ids has names in messages only.
const (
	resourceInodes corev1.ResourceName = "inodes"
	resourcePIDs   corev1.ResourceName = "pids"
)

// condition is the node's that a signal sets; empty for what is no signal.
func (s Signal) condition() corev1.NodeConditionType {
	switch s {
	case MemoryAvailable:
		return corev1.NodeMemoryPressure
	case NodeFSAvailable, NodeFSInodes, ImageFSAvailable, ImageFSInodes:
		return corev1.NodeDiskPressure
	case PIDAvailable:
		return corev1.NodePIDPressure
	default:
		return ""
	}
}

// resource is what is short.
func (s Signal) resource() corev1.ResourceName {
	switch s {
	case MemoryAvailable:
		return corev1.ResourceMemory
	case NodeFSInodes, ImageFSInodes:
		return resourceInodes
	case PIDAvailable:
		return resourcePIDs
	default:
		return corev1.ResourceEphemeralStorage
	}
}

// format is how its quantities are written.
func (s Signal) format() resource.Format {
	switch s {
	case NodeFSInodes, ImageFSInodes, PIDAvailable:
		return resource.DecimalSI
	default:
		return resource.BinarySI
	}
}

// Value is an amount, or a share of all that there is.
type Value struct {
	Amount int64
	// Share is from 0 to 1. With an amount, too, the smaller of both counts.
	Share float64
}

// of is the amount for a capacity.
func (v Value) of(capacity int64) int64 {
	share := int64(float64(capacity) * v.Share)
	switch {
	case v.Share == 0:
		return v.Amount
	case v.Amount == 0:
		return share
	default:
		return min(v.Amount, share)
	}
}

// Threshold is how much of something there should be.
type Threshold struct {
	Signal Signal
	Value  Value
	// Grace is how long there may be less before pods are ended for it; zero is a hard
	// threshold, for which they have a second to stop.
	Grace time.Duration
	// Reclaim is how much more than Value there must be until all is well again.
	Reclaim Value
}

// Settings are thresholds as they are configured, by signal.
type Settings struct {
	Hard, Soft, SoftGracePeriod, MinimumReclaim map[string]string
}

// DefaultHard are a kubelet's thresholds. Of memory, a machine with less than a
// gigabyte needs only a tenth: most of a gateway with 128 MiB would else be short
// of it for ever.
func DefaultHard() []Threshold {
	return []Threshold{
		{Signal: MemoryAvailable, Value: Value{Amount: 100 << 20, Share: 0.10}},
		{Signal: NodeFSAvailable, Value: Value{Share: 0.10}},
		{Signal: NodeFSInodes, Value: Value{Share: 0.05}},
		{Signal: ImageFSAvailable, Value: Value{Share: 0.15}},
		{Signal: ImageFSInodes, Value: Value{Share: 0.05}},
	}
}

// Parse reads thresholds. No hard ones mean the defaults; as at kubelets, some mean
// no others. A value of zero or 100 % switches a threshold off.
func Parse(s Settings) ([]Threshold, error) {
	var out []Threshold
	hard, err := parseList("evictionHard", s.Hard)
	if err != nil {
		return nil, err
	}
	if len(s.Hard) == 0 {
		hard = DefaultHard()
	}
	out = append(out, hard...)
	soft, err := parseList("evictionSoft", s.Soft)
	if err != nil {
		return nil, err
	}
	for _, t := range soft {
		text, ok := s.SoftGracePeriod[string(t.Signal)]
		if !ok {
			return nil, fmt.Errorf("evictionSoftGracePeriod: has no %s, which is in evictionSoft", t.Signal)
		}
		if t.Grace, err = time.ParseDuration(text); err != nil || t.Grace <= 0 {
			return nil, fmt.Errorf("evictionSoftGracePeriod: %s: %q is no time such as 1m30s", t.Signal, text)
		}
		out = append(out, t)
	}
	for name := range s.SoftGracePeriod {
		if _, ok := s.Soft[name]; !ok {
			return nil, fmt.Errorf("evictionSoftGracePeriod: %s is not in evictionSoft", name)
		}
	}
	reclaim, err := parseList("evictionMinimumReclaim", s.MinimumReclaim)
	if err != nil {
		return nil, err
	}
	for _, r := range reclaim {
		for i := range out {
			if out[i].Signal == r.Signal {
				out[i].Reclaim = r.Value
			}
		}
	}
	return out, nil
}

func parseList(field string, list map[string]string) ([]Threshold, error) {
	var out []Threshold
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if Signal(name).condition() == "" {
			return nil, fmt.Errorf("%s: %q is not a signal", field, name)
		}
		v, err := parseValue(list[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", field, name, err)
		}
		if v != (Value{}) && v.Share < 1 {
			out = append(out, Threshold{Signal: Signal(name), Value: v})
		}
	}
	return out, nil
}

func parseValue(text string) (Value, error) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(percent, 64)
		if err != nil || f < 0 || f > 100 {
			return Value{}, fmt.Errorf("%q is not between 0%% and 100%%", text)
		}
		return Value{Share: f / 100}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		return Value{}, fmt.Errorf("%q is neither a quantity nor a percentage", text)
	}
	return Value{Amount: q.Value()}, nil
}

// Reserved is how much of a capacity hard thresholds keep from pods.
func Reserved(thresholds []Threshold, s Signal, capacity int64) (most int64) {
	for _, t := range thresholds {
		if t.Signal == s && t.Grace == 0 {
			most = max(most, t.Value.of(capacity))
		}
	}
	return most
}
