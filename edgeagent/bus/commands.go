package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	fielddevices "github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/edgeagent/devices"
)

const (
	// maxCommands bounds those that are under way or wait.
	maxCommands = 64
	// maxAnswers bounds those that wait to be told.
	maxAnswers = 256
	// commandTimeout is how long a device may take.
	commandTimeout = 30 * time.Second
)

var (
	errRetained = errors.New("a command may not be retained, or it would be carried out at each connection: publish it without the flag")
	errBusy     = fmt.Errorf("%d commands are under way at this edge, which is the most: try again when one has been answered", maxCommands)
)

// commands carries commands out: one at a time for each device, in the order in which
// they came.
type commands struct {
	live func(namespace, name string) (devices.Live, bool)
	log  *slog.Logger

	places   chan struct{} // holds one item for each command
	incoming chan Command  // never full: it has as many places
	answers  chan answer

	done, failed, busy atomic.Uint64
}

func newCommands(cfg Config) *commands {
	return &commands{
		live: cfg.Live, log: cfg.Log, places: make(chan struct{}, maxCommands),
		incoming: make(chan Command, maxCommands), answers: make(chan answer, maxAnswers),
	}
}

// receive never blocks.
func (c *commands) receive(cmd Command) {
	var err error
	switch {
	case len(cmd.Payload) > MaxCommand:
		cmd.Payload = nil
		err = fmt.Errorf("a command may have %d bytes at most", MaxCommand)
	case cmd.Retained:
		err = errRetained
	}
	if err != nil {
		c.failed.Add(1)
		c.refuse(answer{command: cmd, err: err})
		return
	}
	select {
	case c.places <- struct{}{}:
		c.incoming <- cmd
	default:
		c.busy.Add(1)
		c.refuse(answer{command: cmd, err: errBusy})
	}
}

// refuse answers if there is a place: who floods the bus need not hear of each.
func (c *commands) refuse(a answer) {
	c.log.Debug("command refused", "from", a.command.From, "device", a.command.Device.Namespace+"/"+a.command.Device.Name, "name", a.command.Name, "error", a.err)
	select {
	case c.answers <- a:
	default:
	}
}

func (c *commands) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	waiting := make(map[devices.Name][]Command) // has a key for each device with a command under way
	idle := make(chan devices.Name)
	start := func(cmd Command) {
		all.Go(func() {
			c.serve(ctx, cmd)
			<-c.places
			select {
			case idle <- cmd.Device:
			case <-ctx.Done():
			}
		})
	}
	for {
		select {
		case cmd := <-c.incoming:
			list, busy := waiting[cmd.Device]
			if !busy {
				waiting[cmd.Device] = nil
				start(cmd)
				continue
			}
			waiting[cmd.Device] = append(list, cmd)
		case n := <-idle:
			if list := waiting[n]; len(list) > 0 {
				waiting[n] = list[1:]
				start(list[0])
				continue
			}
			delete(waiting, n)
		case <-ctx.Done():
			return nil
		}
	}
}

// serve carries a command out and has it answered.
func (c *commands) serve(ctx context.Context, cmd Command) {
	a := answer{command: cmd}
	var r request
	if r, a.err = parseRequest(cmd.Payload, cmd.Call); a.err == nil {
		dctx, cancel := context.WithTimeout(ctx, commandTimeout)
		a.outputs, a.note, a.err = c.perform(dctx, cmd.Target, r)
		cancel()
	}
	a.id = r.ID
	log := c.log.With("from", cmd.From, "device", cmd.Device.Namespace+"/"+cmd.Device.Name, "call", cmd.Call, "name", cmd.Name)
	if a.err == nil {
		c.done.Add(1)
		log.Info("command of the bus carried out")
	} else {
		c.failed.Add(1)
		log.Warn("command of the bus failed", "error", cut(a.err.Error(), maxError))
	}
	select {
	case c.answers <- a:
	case <-ctx.Done():
	}
}

func (c *commands) perform(ctx context.Context, t Target, r request) (fielddevices.Struct, string, error) {
	l, ok := c.live(t.Device.Namespace, t.Device.Name)
	switch {
	case !ok:
		return nil, "", fmt.Errorf("this edge has no Device %s/%s", t.Device.Namespace, t.Device.Name)
	case l.Fault != "":
		return nil, "", fmt.Errorf("device %s is not open: %s: %w", l.Device.Key(), l.Fault, fielddevices.ErrNotConnected)
	}
	if t.Call {
		args, err := argumentsOf(l.Device, t.Name, r)
		if err != nil {
			return nil, "", err
		}
		out, err := l.Call(ctx, t.Name, args)
		return out, "", err
	}
	w, err := writeOf(l.Device, t.Name, r)
	if err != nil {
		return nil, "", err
	}
	if errs := l.Write(ctx, []fielddevices.Write{w}); len(errs) > 0 && errs[0] != nil {
		return nil, "", errs[0]
	}
	return nil, desiredNote(l.Device, w), nil
}

// desiredNote says that a value will not last.
func desiredNote(d *fielddevices.Device, w fielddevices.Write) string {
	for i := range d.Spec.Properties {
		dp := &d.Spec.Properties[i]
		if dp.Name != w.Property || dp.Desired == nil {
			continue
		}
		p, _ := d.Property(w.Property)
		v, err := fielddevices.DecodeJSON(dp.Desired.Raw, p.ValueType, &d.Model)
		if err == nil && !fielddevices.Equal(v, w.Value) {
			return cut(fmt.Sprintf("the Device desires %s, which the edge writes again soon", dp.Desired), maxError)
		}
	}
	return ""
}
