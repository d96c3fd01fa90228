// Package websocket is what the sync of package desired is compared with: objects
// as JSON over one WebSocket, one message under way for each node, each of them
// acknowledged, the way of KubeEdge's cloudhub and edgehub. Cloud is the end at
// the API server, Edge the one at the node; both are written for the benchmark.
//
// Where there was a choice it is the one that costs less. KubeEdge makes two or
// three calls of the API after each acknowledgement before the next message goes
// out, resends what was not acknowledged in 5 s, writes into SQLite, two tables
// for each object, and waits 30 s before it dials again; here are none, none, one
// file with one fsync, and 2 s. An edge that connects gets the list of all that it
// should have: KubeEdge avoids that for a cloudcore that lives on by an object in
// etcd for each object and node, which is not modelled.
package websocket

import (
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
)

// The operations of a message.
const (
	opUpdate    = "update"
	opDelete    = "delete"
	opList      = "list" // all objects of one resource
	opResponse  = "response"
	opKeepalive = "keepalive"
	opLease     = "lease"
)

// The resources of a list.
const (
	podList       = "podlist"
	configMapList = "configmaplist"
)

const (
	// keepalive and lease are KubeEdge's heartbeat and its kubelet's lease, which
	// crosses the link as a request with an answer.
	keepaliveEvery = 15 * time.Second
	leaseEvery     = 10 * time.Second
	// redial is the pause between connections.
	redial = 2 * time.Second
	// timeout bounds a handshake and a write.
	timeout = 30 * time.Second
)

// message has the fields of KubeEdge's.
type message struct {
	Header  header          `json:"header"`
	Route   route           `json:"route"`
	Content json.RawMessage `json:"content,omitempty"`
}

type header struct {
	ID              string `json:"msg_id"`
	ParentID        string `json:"parent_msg_id,omitempty"`
	Timestamp       int64  `json:"timestamp"`
	ResourceVersion string `json:"resourceversion,omitempty"`
}

type route struct {
	Source    string `json:"source"`
	Group     string `json:"group"`
	Operation string `json:"operation"`
	Resource  string `json:"resource"`
}

func newMessage(source, operation, resource string, content json.RawMessage) *message {
	return &message{
		Header:  header{ID: string(uuid.NewUUID()), Timestamp: time.Now().UnixMilli()},
		Route:   route{Source: source, Group: "resource", Operation: operation, Resource: resource},
		Content: content,
	}
}

// response answers m.
func (m *message) response(source string, content json.RawMessage) *message {
	r := newMessage(source, opResponse, m.Route.Resource, content)
	r.Header.ParentID = m.Header.ID
	return r
}

// item is one object of a list.
type item struct {
	Key    string          `json:"key"`
	Object json.RawMessage `json:"object"`
}
