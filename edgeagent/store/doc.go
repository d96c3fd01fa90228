// Package store is the edge's disk: what the cloud wants of this edge, what the
// edge still has to tell the cloud, and a few facts about the edge itself, in
// one Pebble database. It is the only package that imports Pebble.
//
// It guarantees that a write which returned nil survives kill -9 and power loss
// at any instruction, whole or, had it not returned yet, whole or not at all.
// Secrets are sealed on the disk. A full disk refuses writes until there is room;
// damage is set aside, and the cloud sends again what it held. When a write fails
// for another reason, nothing can be promised about the database any more until it
// is opened again: the store refuses all later writes and closes Failed, and the
// process is expected to end and be started anew.
//
// Key layout, options and crash cases are in DESIGN.md.
package store
