// Package local is the agent's own door: HTTP over a Unix socket, by which root
// on this machine sees the edge's pods, reads logs and runs commands while there
// is no cloud to ask. The agent runs the [Server]; `skerry get`, `skerry logs` and
// `skerry exec` are users of the [Client].
//
//	GET  /v1/pods        Pods: what runs here, and what is wrong with manifests
//	GET  /v1/node        corev1.Node, with the condition CloudConnected
//	GET  /v1/configmaps  corev1.ConfigMapList; ?namespace= and ?name= narrow it
//	GET  /containerLogs/NAMESPACE/POD/CONTAINER  the kubelet's own path
//	GET  /v1/exec        upgrade to "skerry-exec": then the frames of KindExec
//
// The last two are served by the handlers that serve the cloud. Secrets are not
// served at all.
//
// The socket has mode 0600 in a folder of mode 0700, and the kernel is asked who
// connects: only root, and whoever the agent runs as, gets an answer.
package local
