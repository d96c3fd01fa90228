// Package uplinks holds the tests of an edge with two uplinks: the kernel's routes,
// devices and sockets in network namespaces of their own, and an emulated link for
// each uplink. They need root and run with SKERRY_E2E in the environment, else they
// are skipped.
package uplinks
