// Package plan decides which registers to ask for in one request. It is pure
// logic: it knows no bus and no clock.
//
// A request has a price of its own (round trip, frames, silences) and a price for
// each register, both measured (Meter). Two values are asked for together when the
// registers between them cost less than another request: on a LAN nearly always,
// at 9600 baud over a gap of some ten registers.
//
// What a device refuses is learned (Known): a refused request is cut in two until
// the halves pass or a single value is left. The cut where both halves pass is
// remembered, as a hole that no request may cross, or as a limit of size.
package plan
