// Package opcua is the driver of OPC UA servers: the session layer between
// package devices and gopcua, which is codec and algorithms here and nothing more.
// One Driver serves all devices of an edge; those with the same server and user
// share a session. DESIGN.md says what happens after which fault.
package opcua
