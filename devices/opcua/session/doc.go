// Package session is one session with an OPC UA server (Part 4, 5.6): it is
// created on a secure channel, activated for a user, and activated again on another
// channel after the first was lost, which keeps the server's subscriptions and what
// they have queued. It sends requests with the session's token, in batches that the
// server takes: its OperationLimits, and what it refuses teaches.
package session
