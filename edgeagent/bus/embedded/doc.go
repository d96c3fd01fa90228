// Package embedded is an MQTT broker in the agent's process: mochi-mqtt, with users and
// their rights from a file, and bounds for clients that are hostile.
//
// What the broker does not do: keep a session of a client that is away, retain what
// clients publish, shared subscriptions. What the edge itself publishes is retained here,
// not in mochi-mqtt, which has some 700 bytes for each message beside it, and sends a new
// subscriber all of them at once into a queue that drops what it has no place for.
package embedded
