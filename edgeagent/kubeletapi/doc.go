// Package kubeletapi is the edge's end of the kubelet API: container logs,
// commands in containers, and health. The cloud's end is the server that
// kube-apiserver takes for a kubelet; what lies between are streams of the
// tunnel, which come here as connections of two listeners:
//
//   - KindKubelet carries HTTP/1.1 with the kubelet's own paths.
//   - KindExec carries one command as frames: the request, input and terminal
//     sizes down, output and the exit code up. SPDY and WebSocket never get here.
//
// Who may ask for what is decided in the cloud, which alone can open streams.
// This end checks what only it knows: that the pod is the one that was meant (by
// UID), and what its containers do.
//
// Nothing is unbounded: streams are counted, a command's input waits in a buffer
// of 256 KiB and then in the stream's own flow control, output blocks the command
// as a full pipe would. When a stream dies, what it started is canceled.
//
// Attach and port forwarding get a stream kind and a file each beside exec.go;
// stats and metrics are paths beside those of http.go.
package kubeletapi
