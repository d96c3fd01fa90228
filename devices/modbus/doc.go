// Package modbus is the driver of Modbus devices: TCP, serial lines (RTU), and RTU
// behind TCP. Its layers are packages of their own, each usable without the next:
//
//	pdu     what a request and an answer hold
//	frame   how they travel: MBAP, RTU
//	serial  opening a line of the edge
//	bus     one owner of a line or connection, which answers requests to its units
//	plan    which registers to ask for in one request
//	value   registers to values and back
//
// A Driver shares a bus between all devices on it. DESIGN.md has the reasons.
package modbus
