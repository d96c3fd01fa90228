// Package external is the client of an MQTT broker that is not this edge's own: it keeps
// one connection of MQTT 5, publishes what the bus tells, and takes the commands for this
// edge's devices. Who may send them is the broker's to decide.
package external
