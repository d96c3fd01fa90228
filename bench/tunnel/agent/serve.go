package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
)

// Request is a call, as the agent gets it.
type Request struct {
	ID   int             `json:"id"`
	Call string          `json:"call"`
	Args json.RawMessage `json:"args,omitempty"`
}

// With gives f the arguments of r.
func With[T any](r Request, f func(T) (any, error)) (any, error) {
	var args T
	if err := json.Unmarshal(r.Args, &args); err != nil {
		return nil, err
	}
	return f(args)
}

// Serve lets do answer the lines of in until that ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer, do func(context.Context, Request) (any, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{do: do, out: json.NewEncoder(out)}
	dec := json.NewDecoder(in)
	for {
		var r Request
		if err := dec.Decode(&r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		// The process ends when its input does: nobody waits for what still runs.
		go s.answer(ctx, r)
	}
}

type server struct {
	do func(context.Context, Request) (any, error)

	mu  sync.Mutex // guards the following field
	out *json.Encoder
}

func (s *server) answer(ctx context.Context, r Request) {
	result, err := s.do(ctx, r)
	reply := answer{ID: r.ID}
	if err == nil {
		reply.Result, err = json.Marshal(result)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Encode(reply) // fails when the bench has gone, and then so does the input
}
