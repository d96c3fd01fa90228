// Package serial opens a serial line of the edge: raw bytes at a speed and
// parity. It opens terminals only, one owner at a time.
package serial
