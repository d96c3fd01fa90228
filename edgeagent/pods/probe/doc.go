// Package probe performs one probe or lifecycle hook of a container: exec, HTTP,
// TCP or gRPC. When to probe and what a result means is decided by
// edgeagent/pods; nothing here keeps state.
package probe
