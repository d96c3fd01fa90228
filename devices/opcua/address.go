package opcua

import (
	"fmt"
	"strings"

	"github.com/gopcua/opcua/ua"
)

// address is a node by its namespace's URI, which holds, while the namespace's
// number may be another after each start of the server.
type address struct {
	uri string // "" for OPC UA's own namespace
	id  *ua.NodeID
}

// parseAddress reads nsu=URI;s=NAME, also with i=, g= and b=; without nsu= it is a
// node of OPC UA itself.
func parseAddress(s string) (address, error) {
	uri, rest := "", s
	if after, ok := strings.CutPrefix(s, "nsu="); ok {
		var found bool
		if uri, rest, found = strings.Cut(after, ";"); !found || uri == "" {
			return address{}, fmt.Errorf("%q: want nsu=URI;s=NAME, or i=, g=, b= for s=", s)
		}
	}
	if len(rest) < 3 || rest[1] != '=' || !strings.Contains("isgb", rest[:1]) {
		return address{}, fmt.Errorf("%q: want nsu=URI;s=NAME, or i=, g=, b= for s=; ns= is not taken, since numbers of namespaces change", s)
	}
	if rest[0] == 's' { // whatever is in a name, also what separates elsewhere
		return address{uri, ua.NewStringNodeID(0, rest[2:])}, nil
	}
	id, err := ua.ParseNodeID(rest)
	if err != nil {
		return address{}, fmt.Errorf("%q: %w", s, err)
	}
	return address{uri, id}, nil
}

// in gives the node's id with the numbers of a table of namespaces, false when the
// namespace is not there.
func (a address) in(namespaces []string) (*ua.NodeID, bool) {
	if a.uri == "" || a.uri == "http://opcfoundation.org/UA/" {
		return a.id, true
	}
	for i, uri := range namespaces {
		if uri == a.uri && i <= 0xffff {
			return withNamespace(a.id, uint16(i)), true
		}
	}
	return nil, false
}

func withNamespace(id *ua.NodeID, ns uint16) *ua.NodeID {
	switch id.Type() {
	case ua.NodeIDTypeString:
		return ua.NewStringNodeID(ns, id.StringID())
	case ua.NodeIDTypeGUID:
		return ua.NewGUIDNodeID(ns, id.StringID())
	case ua.NodeIDTypeByteString:
		b := ua.NewByteStringNodeID(ns, nil)
		_ = b.SetStringID(id.StringID()) // it was read from that text
		return b
	default:
		return ua.NewNumericNodeID(ns, id.IntID())
	}
}
