// Package desired tells each connected edge what it should hold: its pods, what
// they name (ConfigMaps, Secrets, claims with their volumes, RuntimeClasses), their
// service account tokens, and its Devices with their models and Secrets.
//
// Publisher watches the API once for all edges. Serve works on the desired stream
// of one edge: it compares what the edge says it holds with what it should hold,
// sends the differences, says Synced, and then follows. Event handlers only put
// keys into the sets of the edges that they concern; each stream has its own
// goroutine, which reads the newest value when it sends. So a slow edge delays
// nobody, and any number of changes to one object while its last one is on the way
// cost one message. Per edge there are keys and versions in memory, never values.
//
// The mirror half is edgeagent/desired; the frames are drawn in tunnel/wire.
package desired
