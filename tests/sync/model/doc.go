// Package model plays random weeks of a cloud and an edge in virtual time: the
// API changes, links break, processes and disks crash, disks are full, machines are
// replaced, replicas take over and lag behind. One half of the schedules goes over
// pipes that break at any byte, the other through the tunnel, with the uplink, the
// registries and a network that loses packets. What must hold in the end, and at every
// moment, is in ledger. It holds tests only.
package model
