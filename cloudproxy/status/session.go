// Package status is what the cloud proxy tells people about the session of one
// edge. The kubelet front serves it at Path, so that whoever reaches
// kube-apiserver can read it; the admin port lists it for all edges; `skerry
// status` prints it. The package holds data only, and imports nothing of the
// proxy.
package status

import "time"

// Path is where the kubelet front answers with the Session of the node that a
// request names. No kubelet has such a path.
const Path = "/edge/v1/session"

// Session is one edge's session as the proxy sees it: sent is what went to the
// edge. Counters are the session's and begin anew with the next one.
type Session struct {
	Node string `json:"node"`
	// Connected says that the session has a link now. When there is no session all
	// that follows Since is zero.
	Connected bool `json:"connected"`
	// Since is when Connected became what it is. Zero means that the edge was not
	// seen since this proxy started.
	Since time.Time `json:"since,omitzero"`
	// SessionSince is when the session began. It outlives its links.
	SessionSince time.Time `json:"sessionSince,omitzero"`
	AgentVersion string    `json:"agentVersion,omitempty"`
	// Link is the kind of the present link: quic or tls.
	Link string `json:"link,omitempty"`
	// Remote is the edge's address, as the proxy sees it, on the newest link.
	Remote string `json:"remote,omitempty"`
	// RTT is the smoothed round-trip time in milliseconds.
	RTT float64 `json:"rttMs,omitzero"`

	BytesSent       uint64 `json:"bytesSent"`
	BytesReceived   uint64 `json:"bytesReceived"`
	PacketsSent     uint64 `json:"packetsSent"`
	PacketsReceived uint64 `json:"packetsReceived"`
	// PacketsLost are those of PacketsSent that had to be sent again.
	PacketsLost uint64 `json:"packetsLost"`

	// Streams is how many are open, whichever side opened them.
	Streams int `json:"streams"`
	// Links counts the links so far, Resumes those that took the place of a lost
	// one, Migrations how often the edge changed its address under a living link.
	Links      uint64 `json:"links"`
	Resumes    uint64 `json:"resumes"`
	Migrations uint64 `json:"migrations"`
	// ReplayedBytes went out again after a link was lost, DuplicateBytes came twice.
	ReplayedBytes  uint64 `json:"replayedBytes"`
	DuplicateBytes uint64 `json:"duplicateBytes"`
	// BufferedBytes are held in case they must go out again, or wait to be read.
	BufferedBytes int64 `json:"bufferedBytes"`
	// Kinds are the streams so far, by what they carry.
	Kinds map[string]Kind `json:"kinds,omitempty"`
}

// Kind is the account of all streams of one kind; bytes are payload.
type Kind struct {
	Streams       uint64 `json:"streams"`
	BytesSent     uint64 `json:"bytesSent"`
	BytesReceived uint64 `json:"bytesReceived"`
}
