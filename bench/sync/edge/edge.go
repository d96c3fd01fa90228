// Package edge is the process at the edge's end of a link. It has what an agent
// has for desired state, and no more: package desired of the edge with its store
// and its uplink, or the WebSocket that they are compared with. The benchmark
// starts one in each network namespace, see package agent, and asks it when what
// was on the disk.
package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/skerry-io/skerry/bench/tunnel/agent"
	"github.com/skerry-io/skerry/bench/tunnel/system"
)

// What a process can be asked. Each name is that of a call, each type its
// arguments.
const (
	// CallJoin makes an edge of the product of it; Join.
	CallJoin = "join"
	// CallWebsocket makes an edge of the other kind of it; Websocket.
	CallWebsocket = "websocket"
	// CallConnect connects and returns when all is stored that the cloud wants;
	// answered by time.Duration.
	CallConnect = "connect"
	// CallDisconnect ends what CallConnect began.
	CallDisconnect = "disconnect"
	// CallStored waits for marks; Marks, answered by map[string]time.Time, without
	// those that did not come.
	CallStored = "stored"
	// CallWear writes to a disk what an edge writes; WearPlan, answered by Wear.
	CallWear = "wear"
)

// Mark is the annotation that tells one change of an object from another.
const Mark = "bench.skerry.io/mark"

// Join is what an edge of the product needs.
type Join struct {
	Server string `json:"server"`
	Token  string `json:"token"`
	CAHash string `json:"caHash"`
	Node   string `json:"node"`
	Dir    string `json:"dir"`
}

// Websocket is what the other edge needs.
type Websocket struct {
	Address   string           `json:"address"`
	Authority system.Authority `json:"authority"`
	Node      string           `json:"node"`
	Dir       string           `json:"dir"`
}

// Marks are those of changes.
type Marks struct {
	Marks   []string      `json:"marks"`
	Timeout time.Duration `json:"timeout"`
}

// client is either kind of edge.
type client interface {
	// connection makes what run then keeps until its ctx ends; synced tells whether
	// all is stored that the cloud wants.
	connection() (run func(ctx context.Context) error, synced func() bool, err error)
}

// process is this one.
type process struct {
	client client
	cancel context.CancelFunc // ends the connection; nil without one
	ended  chan struct{}      // closed when the connection has ended

	mu     sync.Mutex // guards the following field
	stored map[string]time.Time
}

// Run is the process' main: it answers the lines of in until that ends.
func Run(ctx context.Context, in io.Reader, out io.Writer) error {
	p := &process{stored: map[string]time.Time{}}
	return agent.Serve(ctx, in, out, p.do)
}

func (p *process) do(ctx context.Context, r agent.Request) (any, error) {
	switch r.Call {
	case CallJoin:
		return agent.With(r, func(j Join) (_ any, err error) {
			p.client, err = newSkerry(ctx, j, p.mark)
			return nil, err
		})
	case CallWebsocket:
		return agent.With(r, func(w Websocket) (_ any, err error) {
			p.client, err = newWebsocket(w, p.mark)
			return nil, err
		})
	case CallConnect:
		return p.connect(ctx)
	case CallDisconnect:
		return nil, p.disconnect()
	case CallStored:
		return agent.With(r, func(m Marks) (any, error) { return p.wait(ctx, m), nil })
	case CallWear:
		return agent.With(r, func(w WearPlan) (any, error) { return w.run(ctx) })
	}
	return nil, fmt.Errorf("no call %q", r.Call)
}

// mark is told of each change that is on the disk.
func (p *process) mark(name string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.stored[name]; !ok && name != "" {
		p.stored[name] = at
	}
}

// wait waits until all marks have come.
func (p *process) wait(ctx context.Context, m Marks) map[string]time.Time {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		p.mu.Lock()
		have := map[string]time.Time{}
		for _, name := range m.Marks {
			if at, ok := p.stored[name]; ok {
				have[name] = at
			}
		}
		p.mu.Unlock()
		if len(have) == len(m.Marks) {
			return have
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return have
		}
	}
}

func (p *process) connect(ctx context.Context) (time.Duration, error) {
	if p.client == nil || p.cancel != nil {
		return 0, errors.New("not joined, or connected already")
	}
	// What the cloud wants comes within seconds, but on the slowest links.
	const patience = 3 * time.Minute
	begin := time.Now()
	run, synced, err := p.client.connection()
	if err != nil {
		return 0, err
	}
	ctx, p.cancel = context.WithCancel(ctx)
	var runErr error
	ended := make(chan struct{})
	p.ended = ended
	go func() {
		defer close(ended)
		runErr = run(ctx)
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !synced() {
		select {
		case <-ended:
			return 0, fmt.Errorf("connect: %w", runErr)
		case <-tick.C:
		}
		if time.Since(begin) > patience {
			return 0, fmt.Errorf("not synced after %v", patience)
		}
	}
	return time.Since(begin), nil
}

func (p *process) disconnect() error {
	if p.cancel == nil {
		return errors.New("not connected")
	}
	p.cancel()
	p.cancel = nil
	<-p.ended
	return nil
}
