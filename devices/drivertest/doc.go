// Package drivertest is the suite that every driver passes. A driver's tests
// give it a Harness, which has a peer and knows how to change and to cut it.
package drivertest
