// Package modbus tests the Modbus driver against devices that others have written:
// libmodbus behind a small C program (slave/slave.c) over TCP and over a serial line
// of two socat pseudo-terminals, and npm's modbus-serial. Run it by SKERRY_E2E=1.
package modbus
