package survey

import "github.com/skerry-io/skerry/devices/v1alpha1"

// Discovery is what an OPC UA server tells everybody.
type Discovery struct {
	// Servers are those that it knows (FindServers), itself among them.
	Servers []Server `json:"servers"`
	// Endpoints are its own (GetEndpoints).
	Endpoints []Endpoint `json:"endpoints"`
}

// Server is an application that a server knows.
type Server struct {
	Name string   `json:"name,omitempty"`
	URI  string   `json:"uri,omitempty"`
	URLs []string `json:"urls,omitempty"`
}

// Endpoint is a way to connect.
type Endpoint struct {
	URL string `json:"url"`
	// Policy and Mode are as in a Device's securityPolicy and securityMode.
	Policy string `json:"policy"`
	Mode   string `json:"mode"`
	// Users are the kinds of users that it takes: Anonymous, UserName, Certificate.
	Users []string `json:"users,omitempty"`
	// Fingerprint is that of the server's certificate, SHA-256.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Subject is whom the certificate names.
	Subject string `json:"subject,omitempty"`
	// Best is the one that a Device takes by itself, as anonymous.
	Best bool `json:"best,omitempty"`
}

// BrowseRequest is the body of a browse.
type BrowseRequest struct {
	// OPCUA is the server as a Device has it; its URL is that of the query.
	OPCUA v1alpha1.OPCUA `json:"opcua"`
	// Secrets are those that OPCUA names.
	Secrets map[string]map[string][]byte `json:"secrets,omitempty"`
	// Root is the node to begin at, as in a Device's nodeId; "" is the folder
	// Objects, without what is there about the server itself.
	Root string `json:"root,omitempty"`
	// MaxNodes bounds the nodes; 0 is DefaultNodes.
	MaxNodes int `json:"maxNodes,omitempty"`
}

// Line is a line of a browse's answer: exactly one field is set. Types and nodes
// come when all have been found; the last line has End.
type Line struct {
	Progress *Progress                `json:"progress,omitempty"`
	Type     *v1alpha1.TypeDefinition `json:"type,omitempty"`
	Node     *Node                    `json:"node,omitempty"`
	End      *End                     `json:"end,omitempty"`
}

// Progress is how far a browse is.
type Progress struct {
	// Doing is connect, browse, read or types.
	Doing string `json:"doing"`
	Nodes int    `json:"nodes"`
}

// End says that the answer is whole.
type End struct {
	Nodes int `json:"nodes"`
	// Truncated says that there were more nodes than MaxNodes.
	Truncated bool `json:"truncated,omitempty"`
	// Error is why there is no more, "" if there is none.
	Error string `json:"error,omitempty"`
	// Fingerprint is that of a server's certificate which is not trusted.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Class is a node's.
type Class string

// The classes that a browse finds.
const (
	Object   Class = "Object"
	Variable Class = "Variable"
	Method   Class = "Method"
)

// Node is a node of a server's address space, with addresses as a Device has them.
type Node struct {
	ID     string `json:"id"`
	Parent string `json:"parent"`
	Class  Class  `json:"class"`
	// Name is the browse name without its namespace, Display for people.
	Name        string `json:"name"`
	Display     string `json:"display,omitempty"`
	Description string `json:"description,omitempty"`
	// Type is the type definition, TypeName its browse name; of objects and variables.
	Type     string `json:"type,omitempty"`
	TypeName string `json:"typeName,omitempty"`

	// Of variables only. Value is nil for what a Device has no type for; Unmapped says
	// why.
	Value    *v1alpha1.ValueType `json:"value,omitempty"`
	Unmapped string              `json:"unmapped,omitempty"`
	Access   v1alpha1.Access     `json:"access,omitempty"` // "": neither read nor written
	Unit     string              `json:"unit,omitempty"`
	Min      *float64            `json:"min,omitempty"`
	Max      *float64            `json:"max,omitempty"`

	// Of methods only.
	Inputs  []v1alpha1.FieldType `json:"inputs,omitempty"`
	Outputs []v1alpha1.FieldType `json:"outputs,omitempty"`
}
