// Package eviction watches what the machine has left of memory, disk and process
// ids, and ends pods when that is too little, in the kubelet's order: first what
// can be had back without, unused images and dead containers; then the pod that
// uses more than it requested, the less important one of two such, the one that
// uses most. It also ends pods that write more to the node's disk than they may.
//
// It is the one place where pressure is judged: the node's conditions and the
// admission of pods ask it. A machine that has enough of all costs two files and
// two system calls every ten seconds; pods are measured only when one of them has
// to go, or when a pod has a limit of its own.
//
//	sample --> State (pure) --> nothing is short
//	                       \--> reclaim --> sample --> enough
//	                                    \--> rank --> end one pod, wait for its end
package eviction
