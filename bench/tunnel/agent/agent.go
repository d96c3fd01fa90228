package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/bench/tunnel/system"
)

// messageSize is that of an echo.
const messageSize = 64

// agent is this process.
type agent struct {
	services system.Services
	keeper   *system.Keeper // nil before CallConnect
	flooded  atomic.Int64
	kept     []system.Session // CallMany's
}

// Run is an agent's main: it answers the lines of in until that ends.
func Run(ctx context.Context, in io.Reader, out io.Writer) error {
	var a agent
	return Serve(ctx, in, out, a.do)
}

// do carries out one call.
func (a *agent) do(ctx context.Context, r Request) (any, error) {
	switch r.Call {
	case CallServe:
		return With(r, func(e Endpoint) (any, error) { return nil, a.serve(ctx, e) })
	case CallReceived:
		return a.services.Received.Load(), nil
	case CallConnect:
		return With(r, func(e Endpoint) (any, error) { return nil, a.connect(ctx, e) })
	case CallDials:
		return a.keeper.Dials(), nil
	case CallEcho:
		return With(r, func(p EchoPlan) (any, error) { return a.echo(ctx, p), nil })
	case CallAsk:
		return With(r, func(p AskPlan) (any, error) { return a.ask(ctx, p), nil })
	case CallFlood:
		return With(r, func(p FloodPlan) (any, error) { return nil, a.flood(ctx, p) })
	case CallFlooded:
		return a.flooded.Load(), nil
	case CallFirst:
		return With(r, func(p FirstPlan) (any, error) { return first(ctx, p) })
	case CallMany:
		return With(r, func(p ManyPlan) (any, error) { return a.many(ctx, p) })
	case CallMemory:
		return memory()
	}
	return nil, fmt.Errorf("no call %q", r.Call)
}

func (a *agent) serve(ctx context.Context, e Endpoint) error {
	sys, err := system.Find(e.System)
	if err != nil {
		return err
	}
	issuer, err := e.Authority.Issuer()
	if err != nil {
		return err
	}
	conf, err := issuer.Server()
	if err != nil {
		return err
	}
	// It is closed by the end of the process.
	_, err = sys.Listen(ctx, system.Listen{Address: e.Address, TLS: conf, Handle: a.services.Handle})
	return err
}

// connect starts the keeper and waits for its first session.
func (a *agent) connect(ctx context.Context, e Endpoint) error {
	if a.keeper != nil {
		return errors.New("connected already")
	}
	sys, err := system.Find(e.System)
	if err != nil {
		return err
	}
	issuer, err := e.Authority.Issuer()
	if err != nil {
		return err
	}
	conf, err := issuer.Client("edge-1", nil)
	if err != nil {
		return err
	}
	a.keeper = &system.Keeper{System: sys, Config: system.Dial{Address: e.Address, TLS: conf}}
	go a.keeper.Run(ctx)
	const patience = time.Minute
	if s := a.ask(ctx, AskPlan{At: time.Now(), Timeout: patience}); s.Back.IsZero() {
		return fmt.Errorf("no session after %s", patience)
	}
	return nil
}

// memory is the process' resident memory, with nothing in it that is garbage.
func memory() (int64, error) {
	runtime.GC()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm is %q", b)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
