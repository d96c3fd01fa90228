// Package sim is a driver of devices that are not there: their values follow
// waveforms, keep what is written to them, and go on counting after a crash. A
// Device can be tried with it before there is hardware, and tests use it.
package sim
