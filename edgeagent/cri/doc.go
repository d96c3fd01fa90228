// Package cri is the only door to the container runtime: the calls of the
// Container Runtime Interface that edgeagent/pods and edgeagent/kubeletapi
// need, in plain Go types. Nothing outside this package imports cri-api or grpc.
//
// [Client] talks to the runtime's unix socket. It keeps no state but the
// connection, dials lazily and reconnects by itself, so it may be made before
// the runtime is up. A call that finds nobody on the socket fails with
// [UnavailableError]; an object that the runtime does not know gives an error
// for which errors.Is(err, [ErrNotFound]) holds.
//
// Exec and attach are the exception to plain RPC: the runtime answers with the
// URL of its own streaming server on loopback, and the bytes travel there by
// SPDY/3.1 in the remotecommand protocol v4:
//
//	client                                 runtime
//	  POST URL, Upgrade: SPDY/3.1   ->
//	                                <-  101, X-Stream-Protocol-Version: v4.channel.k8s.io
//	  stream error                  ->      (metav1.Status as JSON comes back on it at the end)
//	  stream stdin, stdout, stderr  ->      (those asked for)
//	  stream resize (with a TTY)    ->      {"Width":80,"Height":24} per change
package cri
