// Package subscription keeps what servers push in order and whole (Part 4, 5.13):
// several Publish requests in flight for all subscriptions of a session, messages
// put in order by their numbers, missing ones asked for again (Republish), what was
// lost told as lost. A message is acknowledged when its receiver says that it is
// stored, so that the server's own queue is the first buffer.
package subscription
