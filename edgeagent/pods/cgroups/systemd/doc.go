// Package systemd makes pods' control groups as slice units of the machine's
// systemd, for runtimes whose containers are its units, too (runc's option
// SystemdCgroup). Two who write to one tree of groups undo each other's work: what
// systemd has not made, its next reload may take away.
//
// It speaks D-Bus with systemd itself over a socket that is there without a D-Bus
// daemon, and only for root. A call makes a connection of its own: systemd tells
// every connection of every unit, for which an idle agent would wake up.
package systemd
