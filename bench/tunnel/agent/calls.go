// Package agent is the process at one end of a link: a server of a system, or a
// client that makes traffic and takes its times. The bench runs one in each
// network namespace and tells it what to do by lines of JSON on its standard
// input; the answers come on its standard output. It ends with its input.
package agent

import (
	"time"

	"github.com/skerry-io/skerry/bench/tunnel/system"
)

// What an agent can be asked. Each name is that of a call, each type its
// arguments.
const (
	// CallServe begins to serve; Endpoint.
	CallServe = "serve"
	// CallReceived gives the bytes that the server's sink took so far; int64.
	CallReceived = "received"
	// CallConnect keeps a session from now on and returns when it has carried an
	// echo; Endpoint.
	CallConnect = "connect"
	// CallDials gives how many sessions CallConnect has made so far; int.
	CallDials = "dials"
	// CallEcho sends a stream of echoes; EchoPlan, answered by trace.Trace.
	CallEcho = "echo"
	// CallAsk sends one message and waits for its answer, however many sessions
	// that takes; AskPlan, answered by trace.Sample.
	CallAsk = "ask"
	// CallFlood sends or takes bulk in the background until the process ends;
	// FloodPlan.
	CallFlood = "flood"
	// CallFlooded gives the bytes of bulk that the client took so far; int64.
	CallFlooded = "flooded"
	// CallFirst times new connections; FirstPlan, answered by []float64, in
	// milliseconds.
	CallFirst = "first"
	// CallMany makes idle sessions and keeps them; ManyPlan, answered by
	// sessions a second.
	CallMany = "many"
	// CallMemory gives the process' resident memory after a garbage collection,
	// in bytes; int64.
	CallMemory = "memory"
)

// Endpoint is a server, to itself and to its clients.
type Endpoint struct {
	System    string           `json:"system"`
	Authority system.Authority `json:"authority"`
	Address   string           `json:"address"`
}

// EchoPlan is a stream of 64-byte messages, one each Every, from Start to End.
type EchoPlan struct {
	Start time.Time     `json:"start"`
	End   time.Time     `json:"end"`
	Every time.Duration `json:"every"`
	// Drain is how long the last answers are waited for after End.
	Drain time.Duration `json:"drain"`
	// Settle, if not 0, ends the stream that long after a message sent after
	// Event had its answer.
	Settle time.Duration `json:"settle,omitzero"`
	Event  time.Time     `json:"event,omitzero"`
}

// AskPlan is one message.
type AskPlan struct {
	At      time.Time     `json:"at"`
	Timeout time.Duration `json:"timeout"`
}

// FloodPlan is a stream of bulk, to the server or from it.
type FloodPlan struct {
	Down bool `json:"down"`
}

// FirstPlan is a number of new connections, one after the other.
type FirstPlan struct {
	Endpoint

	Count   int           `json:"count"`
	Timeout time.Duration `json:"timeout"` // of each; one that takes longer counts as this
	// Total is when no further one begins.
	Total time.Duration `json:"total"`
	// Resumed makes use of what the connection before has left.
	Resumed bool `json:"resumed"`
}

// ManyPlan is a number of sessions.
type ManyPlan struct {
	Endpoint

	Count    int `json:"count"`
	Parallel int `json:"parallel"`
}
