package agent

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/bench/tunnel/trace"
)

// pair is an agent in this process, and the line to it.
func pair(t *testing.T) *Process {
	t.Helper()
	fromUs, toAgent := io.Pipe()
	fromAgent, toUs := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(t.Context(), fromUs, toUs)
		toUs.Close()
	}()
	p := &Process{in: toAgent, done: make(chan struct{}), calls: map[int]chan answer{}}
	go p.read(fromAgent)
	t.Cleanup(func() {
		toAgent.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		<-p.done
	})
	return p
}

func call[T any](t *testing.T, p *Process, name string, args any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var result T
	if err := p.Call(ctx, name, args, &result); err != nil {
		t.Fatal(err)
	}
	return result
}

func TestCalls(t *testing.T) {
	for _, name := range []string{system.Skerry, "yamux-cubic"} {
		t.Run(name, func(t *testing.T) {
			authority, err := system.NewAuthority()
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			endpoint := Endpoint{System: name, Authority: authority, Address: ln.Addr().String()}
			ln.Close()
			cloud, edge := pair(t), pair(t)
			call[any](t, cloud, CallServe, endpoint)

			if got := call[[]float64](t, edge, CallFirst, FirstPlan{Endpoint: endpoint, Count: 2, Timeout: 10 * time.Second, Total: time.Minute, Resumed: true}); len(got) != 2 || got[0] <= 0 {
				t.Errorf("times to the first byte are %v", got)
			}
			if got := call[float64](t, edge, CallMany, ManyPlan{Endpoint: endpoint, Count: 5, Parallel: 2}); got <= 0 {
				t.Errorf("%g sessions a second", got)
			}
			call[any](t, edge, CallConnect, endpoint)
			if got := call[int](t, edge, CallDials, nil); got != 1 {
				t.Errorf("%d dials", got)
			}
			if got := call[trace.Sample](t, edge, CallAsk, AskPlan{At: time.Now(), Timeout: 10 * time.Second}); got.Back.Before(got.Sent) {
				t.Errorf("answer to %v", got)
			}
			begin := time.Now()
			seen := call[trace.Trace](t, edge, CallEcho, EchoPlan{
				Start: begin.Add(100 * time.Millisecond), End: begin.Add(300 * time.Millisecond), Every: 10 * time.Millisecond, Drain: 10 * time.Second,
			})
			// A busy machine misses some of the 20 moments; what is sent comes back.
			if got := seen.Latencies(); len(got) == 0 || len(got) > 20 || len(got) != len(seen.Samples) || seen.Samples[len(got)-1].Back.IsZero() {
				t.Errorf("%d echoes of at most 20: %v", len(got), seen)
			}
			settled := call[trace.Trace](t, edge, CallEcho, EchoPlan{
				Start: time.Now(), End: time.Now().Add(time.Minute), Every: 10 * time.Millisecond, Event: time.Now(), Settle: 200 * time.Millisecond,
			})
			if took := settled.End.Sub(settled.Samples[0].Sent); took < 200*time.Millisecond || took > 20*time.Second {
				t.Errorf("settled after %v", took)
			}
			call[any](t, edge, CallFlood, FloodPlan{})
			call[any](t, edge, CallFlood, FloodPlan{Down: true})
			for deadline := time.Now().Add(20 * time.Second); ; {
				up, down := call[int64](t, cloud, CallReceived, nil), call[int64](t, edge, CallFlooded, nil)
				if up > 0 && down > 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("bulk: %d bytes up, %d down", up, down)
				}
			}
			if got := call[int64](t, edge, CallMemory, nil); got < 1<<20 {
				t.Errorf("memory is %d bytes", got)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	p := pair(t)
	for name, args := range map[string]any{"nonsense": nil, CallServe: Endpoint{System: "pigeon"}, CallFirst: []int{1}} {
		if err := p.Call(t.Context(), name, args, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if err := Run(t.Context(), strings.NewReader("{"), io.Discard); err == nil {
		t.Error("half a line is accepted")
	}
	b, err := json.Marshal(FirstPlan{Endpoint: Endpoint{System: "x"}, Count: 3})
	if err != nil || !strings.Contains(string(b), `"system":"x"`) {
		t.Errorf("plan is %s, %v", b, err)
	}
}
