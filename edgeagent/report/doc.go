// Package report tells the cloud what happens at this edge: the status of pods,
// pods that are gone, events with their own times, and the node.
//
// What is to be told goes into the store's outbox first, synced, so that callers
// never wait for the network and nothing is lost to a crash. What a full disk does not
// take of pods' statuses and ends waits in memory for room. Reporter.Run sends
// the outbox over one report stream, statuses before events, several at a time,
// and deletes an entry when the cloud says that it has been written to the API. On a new stream
// whatever is left is sent again: at least once, and the cloud's writes are the
// same when done twice. The mirror half is cloudproxy/report.
package report
