// Package bus is the local bus of an edge: what devices tell goes out as MQTT messages
// at the full rate, and commands come in, with a cloud or without one. The topics and
// payloads are devices/DESIGN.md's, "The local bus".
//
// A Bus is told by edgeagent/devices, whose drivers it never makes wait: a bounded
// queue stands between, which keeps of each property the newest value when it is full,
// and counts what it drops. Run sends what is queued to a Broker, of which there are
// two: package embedded has one in this process, package external is the client of
// another.
package bus
