// Package box fills a directory with what a machine of its own, as far as namespaces go,
// needs to run the tests of pods against a container runtime.
package box
