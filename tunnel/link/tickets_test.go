package link

import (
	"crypto/tls"
	"testing"
	"testing/synctest"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// Who dials gets a ticket of its own: what it writes into it is not seen by the
// next, nor by one that dials at the same time.
func TestTicketsAreCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, p := newAuthority(t), newPipes()
		l := ListenTLS(p, ca.server(), 0)
		conf := ca.client("edge-1")
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		edge, err := DialTLS(t.Context(), p.dial, "cloud:7443", conf, 0)
		if err != nil {
			t.Fatal(err)
		}
		read(t, edge) // the tickets come first
		cloud, err := l.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cache := withTickets(conf, KindTLS).ClientSessionCache
		get := func() *tls.SessionState {
			t.Helper()
			s, ok := cache.Get(conf.ServerName)
			if !ok {
				t.Fatal("no ticket")
			}
			ticket, state, err := s.ResumptionState()
			if err != nil || len(ticket) == 0 {
				t.Fatalf("ticket of %d bytes, %v", len(ticket), err)
			}
			return state
		}
		one := get()
		one.EarlyData = !one.EarlyData
		one.Extra = append(one.Extra, []byte("x"))
		if two := get(); two == one || two.EarlyData == one.EarlyData || len(two.Extra) == len(one.Extra) {
			t.Error("a change of one ticket is seen in the next")
		}
		if _, ok := withTickets(conf, KindQUIC).ClientSessionCache.Get(conf.ServerName); ok {
			t.Error("QUIC got a ticket of TCP")
		}
		edge.Close(wire.CodeOK, "")
		cloud.Close(wire.CodeOK, "")
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}
