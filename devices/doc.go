// Package devices is what a driver of field devices must do and the words in
// which it talks: values, qualities, samples, gaps.
//
// A driver (devices/opcua, devices/modbus, devices/sim) turns a protocol into
// batches of samples and takes writes; edgeagent/devices gives it a Port that
// stores them, and does all that is the same for every protocol: what goes on
// to the cloud, what is written next, what the Device's status says.
package devices
