// Package devices runs the devices of this edge: one worker a Device, which has
// a driver talk to it, stores what the driver delivers before the driver may
// acknowledge it, writes what is desired, and tells the cloud how it is.
//
// It is level-triggered: keys wake the Manager, which reads the store and brings
// the workers to what stands there, with or without a cloud. The drivers are the
// caller's to choose: cmd/edgeagent has the map of them.
package devices
