package bus

import (
	"strings"

	"github.com/skerry-io/skerry/edgeagent/devices"
)

// Root is the first level of all topics of the bus. Below it only this edge tells; other
// topics are free.
const Root = "skerry"

// Kinds of topics, the level after the device's name.
const (
	kindValue   = "value"
	kindHistory = "history"
	kindGap     = "gap"
	kindHealth  = "health"
	kindSet     = "set"
	kindCall    = "call"
	kindResult  = "result"
)

const (
	// MaxTopic bounds a topic or filter, in bytes.
	MaxTopic = 768
	// maxLevels bounds the levels of a topic or filter.
	maxLevels = 16
)

// EdgeTopic is where an edge says that its agent runs, retained, and where its last
// will says that it does not.
func EdgeTopic(node string) string { return Root + "/edges/" + node }

// deviceTopic is one of a device's. The names of Devices, properties and methods have no
// character that MQTT gives a meaning, as their definitions say.
func deviceTopic(n devices.Name, kind string, rest ...string) string {
	return strings.Join(append([]string{Root, n.Namespace, n.Name, kind}, rest...), "/")
}

// CommandFilters are those of all commands to devices: what a client of another broker
// subscribes to.
func CommandFilters() []string {
	return []string{Root + "/+/+/" + kindSet + "/+", Root + "/+/+/" + kindCall + "/+"}
}

// Target is what a command is for.
type Target struct {
	Device devices.Name
	// Call says that Name is a method's, else it is a property's to be written.
	Call bool
	Name string
}

// ParseCommandTopic reads the topic of a command, false if it is none.
func ParseCommandTopic(topic string) (Target, bool) {
	if len(topic) > MaxTopic {
		return Target{}, false
	}
	l := strings.Split(topic, "/")
	if len(l) != 5 || l[0] != Root || l[1] == "" || l[2] == "" || l[4] == "" || l[3] != kindSet && l[3] != kindCall {
		return Target{}, false
	}
	return Target{Device: devices.Name{Namespace: l[1], Name: l[2]}, Call: l[3] == kindCall, Name: l[4]}, true
}

// Reserved reports that only this edge may publish to a topic.
func Reserved(topic string) bool {
	return topic == Root || strings.HasPrefix(topic, Root+"/") || strings.HasPrefix(topic, "$")
}

// ValidTopic reports that a message can be published to a topic: not empty, bounded,
// UTF-8 without controls, without wildcards (MQTT 5, 4.7).
func ValidTopic(topic string) bool {
	return ValidFilter(topic) && !strings.ContainsAny(topic, "+#")
}

// ValidFilter reports that a filter is one by MQTT 5, 4.7, within the bounds of this
// package, and not of a shared subscription.
func ValidFilter(filter string) bool {
	if filter == "" || len(filter) > MaxTopic || filter[0] == '$' || strings.ToValidUTF8(filter, "") != filter {
		return false
	}
	levels := strings.Split(filter, "/")
	if len(levels) > maxLevels {
		return false
	}
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && l != "+" && (l != "#" || i != len(levels)-1) {
			return false
		}
		for _, r := range l {
			if r < ' ' || r >= 0x7f && r <= 0x9f {
				return false
			}
		}
	}
	return true
}

// Covers reports that whatever filter matches, by does too. Filter may be a topic, which
// matches itself. Both are valid.
func Covers(by, filter string) bool {
	for {
		if by == "#" {
			return true
		}
		b, byRest, byMore := strings.Cut(by, "/")
		f, rest, more := strings.Cut(filter, "/")
		switch {
		case f == "#", b != "+" && b != f:
			return false
		case !more:
			return !byMore || byRest == "#" // "a/#" matches "a", too
		case !byMore:
			return false
		}
		by, filter = byRest, rest
	}
}
