package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Argument is what makes a program that calls Run an agent.
const Argument = "agent"

// answer is the line that answers a Request's.
type answer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Process is an agent, seen from the bench.
type Process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{} // closed when its output has ended

	mu    sync.Mutex // guards the following fields
	last  int
	calls map[int]chan answer
}

// Start starts this program as an agent in a network namespace.
func Start(ctx context.Context, netns string, log io.Writer) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// It ends with its input, so with the bench; ctx ends it when that doesn't help.
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", netns, self, Argument)
	cmd.Stderr = log
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, in: in, done: make(chan struct{}), calls: map[int]chan answer{}}
	go p.read(out)
	return p, nil
}

// read hands out the answers.
func (p *Process) read(out io.Reader) {
	defer close(p.done)
	dec := json.NewDecoder(out)
	for {
		var a answer
		if err := dec.Decode(&a); err != nil {
			return
		}
		p.mu.Lock()
		c := p.calls[a.ID]
		delete(p.calls, a.ID)
		p.mu.Unlock()
		if c != nil {
			c <- a // its capacity is 1
		}
	}
}

// Call asks the agent for something; result may be nil. Calls may run beside
// each other.
func (p *Process) Call(ctx context.Context, call string, args, result any) error {
	b, err := json.Marshal(args)
	if err != nil {
		return err
	}
	c := make(chan answer, 1)
	p.mu.Lock()
	p.last++
	r := Request{ID: p.last, Call: call, Args: b}
	p.calls[r.ID] = c
	line, err := json.Marshal(r)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	select {
	case a := <-c:
		if a.Error != "" {
			return fmt.Errorf("%s: %s", call, a.Error)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(a.Result, result)
	case <-p.done:
		return fmt.Errorf("%s: the agent has ended", call)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", call, ctx.Err())
	}
}

// Stop ends the agent.
func (p *Process) Stop() error {
	// It has nothing to tidy up that the kernel would not.
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-p.done
	_ = p.cmd.Wait() // killed
	return errors.Join(err, ignoreClosed(p.in.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
