// Package tunneltest gives tests a cloud listener and edge sessions that are
// connected over a simulated network in virtual time. It needs no socket and no
// file, so an hour of outage takes a millisecond. It must run inside
// synctest.Test, and everything it makes ends before the bubble does.
//
//	synctest.Test(t, func(t *testing.T) {
//		n := tunneltest.New(t, tunneltest.Options{RTT: 100 * time.Millisecond})
//		cloud, edge := n.Pair("edge-1")
//		...
//	})
package tunneltest
