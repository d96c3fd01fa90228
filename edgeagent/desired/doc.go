// Package desired keeps in the edge's store what the cloud wants of this edge,
// and reads it back for those who act on it.
//
// Client holds one desired stream open whenever there is a session. It says what
// the store holds, takes the differences, applies them in batches with one sync
// each, acknowledges, and passes on the keys of what has changed. Objects decodes
// what is stored. The mirror half is cloudproxy/desired; the frames are drawn in
// tunnel/wire.
//
// What was acknowledged as stored is on the disk. A value that can't be decoded
// is acknowledged, logged, counted and not stored: it delays no other object, and
// what the store held under its key stays.
package desired
