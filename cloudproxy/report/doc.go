// Package report brings to the Kubernetes API what edges report, and keeps the
// Node objects of edges.
//
// Receiver.Serve works on the report stream of one edge. Each report is written to
// the API before it is acknowledged; what can never be written is acknowledged,
// logged and counted; what can't be written now is tried again and delays only
// reports about the same object. Every write is safe to do twice. An edge can
// report on its own node and the pods bound to it, and on nothing else: what the
// stream's identity says counts, never what a report claims.
//
// Of pods that run from files of an edge it keeps mirror pods, as a kubelet does.
//
// Nodes makes the Node of an edge when it connects, renews its lease while the
// session lives, and marks it when the session is gone.
//
// Tolerations keeps the pods of edges from eviction while their edge is away.
//
// The mirror half is edgeagent/report; the frames are drawn in tunnel/wire.
package report
