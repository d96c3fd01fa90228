// Package onboard makes DeviceModels and Devices of what is known of devices already:
// of a browse of an OPC UA server (package survey), of a table of Modbus registers
// (CSV), and of KubeEdge's objects. `skerry device` is its user.
//
// It is pure: the same input gives the same objects, byte for byte, and what a cluster
// has already keeps its names. Whatever does not become a property or a method is told,
// with the reason.
package onboard
