// Package system puts our tunnel and what it is compared with behind one
// interface: sessions between an edge and a cloud, with mutual TLS 1.3 by the
// product's own certificates, and streams on them that are net.Conns. Only the
// bench uses it.
//
// A session of these may die; whoever uses it dials another, with the pauses
// that Backoff gives. That is the harness's part, see Keeper, since it is what
// a user of these has to write.
package system

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// Class is what a stream is for, to systems that tell streams apart.
type Class int

// The classes.
const (
	// Interactive is what a person waits for.
	Interactive Class = iota
	// Bulk is what fills the line.
	Bulk
)

// Session is a client's end.
type Session interface {
	// Open opens a stream. The server sees it with its first bytes.
	Open(ctx context.Context, class Class) (net.Conn, error)
	// Done is closed when the session has died.
	Done() <-chan struct{}
	// Close ends it.
	Close() error
}

// Dial is what a client needs.
type Dial struct {
	Address string
	// TLS is a configuration of Identity.Client. With a session cache in it, what
	// an earlier connection left there is made use of.
	TLS *tls.Config
}

// Listen is what a server needs.
type Listen struct {
	// Address is where it listens, by UDP, TCP or both.
	Address string
	// TLS is a configuration of Identity.Server.
	TLS *tls.Config
	// Handle gets each stream, in a goroutine of its own, and closes it.
	Handle func(net.Conn)
}

// System is one way to carry streams.
type System struct {
	// Name is that in the results.
	Name string
	// Dial makes a session. It bounds the attempt by itself, as its library does.
	Dial func(ctx context.Context, d Dial) (Session, error)
	// Begin makes one that may be used at once, before the server has answered; nil
	// where there is no such thing.
	Begin func(ctx context.Context, d Dial) (Session, error)
	// Listen serves until the closer is closed.
	Listen func(ctx context.Context, l Listen) (io.Closer, error)
	// Backoff is the pause before the n-th dial since something last worked, from
	// 1; since is how long ago the last dial began.
	Backoff func(n int, since time.Duration) time.Duration
	// TCP is set when nothing of it goes by UDP.
	TCP bool
}

// Skerry is the name of ours.
const Skerry = "skerry"

// All are ours and what it is compared with.
func All() []System {
	return []System{
		{Name: Skerry, Dial: dialSkerry, Begin: beginSkerry, Listen: listenSkerry, Backoff: uplinkBackoff},
		{Name: "quic-stock", Dial: dialQUIC, Listen: listenQUIC, Backoff: uplinkBackoff},
		{Name: "yamux-cubic", Dial: dialYamux, Listen: listenYamux, Backoff: uplinkBackoff, TCP: true},
		{Name: "websocket", Dial: dialWebsocket, Listen: listenWebsocket, Backoff: kubeEdgeBackoff, TCP: true},
	}
}

// Find gives the system of a name.
func Find(name string) (System, error) {
	for _, s := range All() {
		if s.Name == name {
			return s, nil
		}
	}
	return System{}, fmt.Errorf("no system %q", name)
}

// uplinkBackoff is the product's, of package uplink: 0.2 s, doubling to 2 s,
// spread by a quarter to either side. Those compared with get the same, so that
// what differs is the session.
func uplinkBackoff(n int, _ time.Duration) time.Duration {
	const first, longest = 200 * time.Millisecond, 2 * time.Second
	wait := min(first<<min(n-1, 10), longest)
	return wait*3/4 + rand.N(wait/2)
}

// kubeEdgeBackoff is what KubeEdge's stream tunnel does: it dials on a tick of
// 2 s, so at once when the last dial was longer ago.
func kubeEdgeBackoff(_ int, since time.Duration) time.Duration { return max(2*time.Second-since, 0) }

// handleAll hands each stream of accept to a goroutine and returns with the
// last error of accept. What handles the streams ends with the session.
func handleAll(accept func() (net.Conn, error), handle func(net.Conn)) {
	for {
		c, err := accept()
		if err != nil {
			return
		}
		go handle(c)
	}
}
