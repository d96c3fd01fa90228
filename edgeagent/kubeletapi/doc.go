// Package kubeletapi is the edge's end of the kubelet API: container logs,
// commands in containers, and what belongs to the machine: its pods, statistics,
// metrics, configuration and log files. The cloud's end is the server that
// kube-apiserver takes for a kubelet; what lies between are streams of the
// tunnel, which come here as connections of two listeners:
//
//   - KindKubelet carries HTTP/1.1 with the kubelet's own paths. Logs are compressed
//     if the cloud takes that, block by block as they are read; see tunnel/compress.
//   - KindExec carries one command as frames: the request, input and terminal
//     sizes down, output and the exit code up. SPDY and WebSocket never get here.
//     Joining a container's own process is a command that is not started.
//   - KindForward carries one connection to a port of a pod.
//
// Who may ask for what is decided in the cloud, which alone can open streams.
// This end checks what only it knows: that the pod is the one that was meant (by
// UID), and what its containers do.
//
// Nothing is unbounded: streams are counted, a command's input waits in a buffer
// of 256 KiB and then in the stream's own flow control, output blocks the command
// as a full pipe would. When a stream dies, what it started is canceled.
package kubeletapi
