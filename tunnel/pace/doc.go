// Package pace decides when the packets of a session leave, and which of them were
// lost. It is for what quic-go's NewReno is not: a link that loses packets without
// being full. Package tunnel uses it, one Sender and one Receiver for each carrier.
//
// A Sender has a model of the path, after BBR (Cardwell et al., "BBR: Congestion-Based
// Congestion Control", ACM Queue 14(5), 2016): the rate at which packets arrive and the
// shortest round-trip time. It sends at that rate, looks now and then whether there is
// more, and takes losses for chance as long as the round-trip time says that no queue
// is full. All of it is pure: time and packets in, decisions out.
package pace
