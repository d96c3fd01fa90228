package tunnel

import (
	"testing"
	"testing/synctest"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// The end of a direction that nobody reads may arrive while the last is being said
// of the stream; who sent it must hear that it is done, or it keeps the stream.
func TestEndWhileTheLastIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSession(t)
		c := newFakeConn()
		c.hold = make(chan struct{})
		s.attachTo(t, c, nil)
		s.hear(t, &wire.StreamOpen{ID: 1, Kind: wire.KindExec}, &wire.StreamAck{ID: 1, Done: true})
		st, err := s.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st.Close()
		synctest.Wait() // it is said that nobody reads any longer
		s.hear(t, &wire.StreamData{ID: 1, Fin: true})
		close(c.hold)
		synctest.Wait()
		if got := len(c.acks(1)); got != 2 {
			t.Errorf("%d acknowledgements, want one for the close and one for the end", got)
		}
		if got := s.living(); len(got) != 0 {
			t.Errorf("the stream was not forgotten:%s", s.Left())
		}
	})
}

// The same, a moment later: the stream is forgotten when the end is taken in.
func TestEndOfAForgottenStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSession(t)
		c := newFakeConn()
		s.attachTo(t, c, nil)
		s.hear(t, &wire.StreamOpen{ID: 1, Kind: wire.KindExec}, &wire.StreamAck{ID: 1, Done: true})
		st, err := s.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st.Close()
		synctest.Wait()
		before := len(c.acks(1))
		st.received(&wire.StreamData{ID: 1, Fin: true})
		synctest.Wait()
		if got := len(c.acks(1)); got != before+1 {
			t.Errorf("%d acknowledgements after the end, want %d", got, before+1)
		}
	})
}
