// Package deviceapi is the edge's end of `skerry device`: the paths below /devices/ of
// the kubelet API, as package survey says them. Who may ask is decided in the cloud,
// which also tells who did what; this end checks what is asked, bounds it, and gives it
// to the drivers. edgeagent/kubeletapi mounts it.
//
// Discover, browse and identify make the edge connect to where the caller says, which
// is their purpose: whoever may create nodes/proxy may run commands there, too.
package deviceapi
