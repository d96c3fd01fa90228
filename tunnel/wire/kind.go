package wire

import "fmt"

// Version is the protocol version spoken by this build. It is raised when
// something changes that an older peer can't skip.
const Version = 1

// Kind says what a stream is for.
type Kind uint64

// The kinds of streams, and who opens them.
const (
	// KindControl carries Hello and Welcome, once per session; opened by the edge.
	KindControl Kind = 1
	// KindDesired carries desired state down and its acknowledgements; opened by the edge.
	KindDesired Kind = 2
	// KindReport carries reports up and their acknowledgements; opened by the edge.
	KindReport Kind = 3
	// KindKubelet carries HTTP/1.1 requests of the kubelet API; opened by the cloud.
	KindKubelet Kind = 4
	// KindExec carries one remote command; opened by the cloud.
	KindExec Kind = 5
	// KindForward carries one connection to a port of a pod; opened by the cloud.
	KindForward Kind = 6
	// KindRenewal carries an edge's request for its next certificate and the answer;
	// opened by the edge. The cloud opens one to tell which CAs count.
	KindRenewal Kind = 7
)

// String gives the name that logs and metrics use.
func (k Kind) String() string {
	switch k {
	case KindControl:
		return "control"
	case KindDesired:
		return "desired"
	case KindReport:
		return "report"
	case KindKubelet:
		return "kubelet"
	case KindExec:
		return "exec"
	case KindForward:
		return "portforward"
	case KindRenewal:
		return "renewal"
	}
	return fmt.Sprintf("kind-%d", uint64(k))
}
