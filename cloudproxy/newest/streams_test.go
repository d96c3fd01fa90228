package newest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestNewestIsServedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Streams
		first, leaveFirst := s.Enter(t.Context(), "a")
		other, leaveOther := s.Enter(t.Context(), "b")
		type entered struct {
			number int
			ctx    context.Context
			leave  func()
		}
		in := make(chan entered, 3)
		for i := range 3 {
			go func() {
				ctx, leave := s.Enter(t.Context(), "a")
				in <- entered{i, ctx, leave}
			}()
			synctest.Wait()
		}
		if len(in) != 0 || !errors.Is(context.Cause(first), ErrReplaced) || other.Err() != nil {
			t.Fatalf("%d are in while the first is, which has ended with %v, another node's with %v", len(in), context.Cause(first), other.Err())
		}
		leaveFirst()
		for want := range 3 {
			synctest.Wait()
			got := <-in
			if last := want == 2; got.number != want || len(in) != 0 || last != (got.ctx.Err() == nil) {
				t.Errorf("number %d is in, want %d, with %d more; ended with %v", got.number, want, len(in), context.Cause(got.ctx))
			}
			got.leave()
		}
		leaveOther()
		if len(s.nodes) != 0 {
			t.Errorf("%d nodes are left", len(s.nodes))
		}
	})
}
