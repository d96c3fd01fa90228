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
	// Desired is nil while the edge has no desired stream.
	Desired *Desired `json:"desired,omitempty"`
}

// Desired tells how far an edge has been brought to what the API says.
type Desired struct {
	// Synced says that the edge was told everything since its stream began.
	Synced bool `json:"synced"`
	// Objects is what the edge holds or is being sent, Queued what is yet to be
	// compared with that.
	Objects int `json:"objects"`
	Queued  int `json:"queued"`
	// Unstored are changes that are not known to be on the edge's disk, Unapplied
	// these and what nothing there has acted upon, Unrunning these and pods whose
	// containers do not run or are not ready.
	Unstored  Behind `json:"unstored"`
	Unapplied Behind `json:"unapplied"`
	Unrunning Behind `json:"unrunning"`
}

// Behind counts objects that have not come to some step.
type Behind struct {
	Objects int `json:"objects"`
	// LagSeconds is for how long the oldest of them has not.
	LagSeconds float64 `json:"lagSeconds"`
}

// Kind is the account of all streams of one kind; bytes are payload.
type Kind struct {
	Streams       uint64 `json:"streams"`
	BytesSent     uint64 `json:"bytesSent"`
	BytesReceived uint64 `json:"bytesReceived"`
}
