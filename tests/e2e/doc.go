// Package e2e holds the tests that drive the real binaries: a real control
// plane, the cloud proxy, and edges with containerd behind emulated links. They
// run with "make e2e", as root; without SKERRY_E2E in the environment they are
// skipped.
package e2e
