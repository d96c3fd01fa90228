// Package bus owns one serial line or one TCP connection to a device or gateway,
// and answers requests to the units behind it. Everything that talks to the same
// line goes through the same Bus: Bus.Run is the only one that writes and reads.
//
// What it guarantees to its callers, who may be many:
//
//   - An answer belongs to its request. On TCP the transaction id decides; ids of
//     requests that were given up are not used again for a while. RTU has no ids: after a
//     lost answer the unit is first asked something whose answer looks different (a
//     fence), since units answer in order: what comes before it is late.
//   - Every call ends: with an answer, an *pdu.Exception, or an error of this
//     package, at the latest when its deadline, the connection or Run ends.
//   - Control (writes and live reads) goes before Poll; within each, units take turns.
//   - A unit that does not answer may waste 1/32 of the bus's time; in between its
//     calls fail at once with a *DemotedError. The others keep the rest.
//   - One owner of reconnecting, with backoff and jitter. While there is no
//     connection calls fail at once with ErrNotConnected.
package bus
