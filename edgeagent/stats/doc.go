// Package stats measures this machine, its pods and their containers for the
// kubelet API: the JSON of /stats/summary, and the metrics of /metrics/resource
// and /metrics/cadvisor, with a kubelet's names. edgeagent is its only user.
//
// Nothing is measured while nobody asks. An answer is one sample, shared by those
// who ask within the same second; rates of CPU need two, so the one before is
// remembered, and the first answer after a while has none.
//
// The runtime tells which containers there are, what they use, and how much they
// have written to their layers. What it leaves out is read here, from control
// groups of version 1 or 2 and from /proc: the pods' own groups, throttling,
// faults, pressure, swap, networks, and the machine as a whole. A file that is
// missing leaves out what it would tell: an answer with less is better than none.
package stats
