// Package runtimes runs the tests of pods against the containerd, the shim and the runc
// that .ci/tool builds: years newer than Debian's, with container events, features of
// handlers, and users of a pod's own. It needs root, runs with SKERRY_E2E in the
// environment, in namespaces made for that, and leaves nothing outside.
package runtimes
