// Package logrotate keeps the logs of running containers small, as a kubelet
// does: a log that has grown to its bound is renamed, and the runtime is asked to
// begin a new one under the old name. edgeagent runs one [Rotator] for all pods.
//
//	0.log                        the container writes here
//	0.log.20260102-150405        the part before, which readers may still follow
//	0.log.20260102-150102.gz     older ones, compressed at the next rotation
//
// The order of the names is the order of the parts, even if the machine's clock
// was set back in between. Whoever reads a log finds its parts by [Parts] and may
// lose the oldest to a rotation meanwhile, but none in between.
//
// The agent may be killed at any moment: what a rotation has left half done, the
// next one finishes or takes back.
package logrotate
