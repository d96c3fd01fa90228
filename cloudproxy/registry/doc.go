// Package registry knows which edges are connected to this proxy, and is the way
// to them: DialEdge opens a stream to an edge, Handle serves the streams that
// edges open. Of several sessions of one edge the newest is kept, at once.
//
// An edge is connected while its session is attached, that is, has a link. One
// that has lost its link is kept with its streams, for the edge may come back and
// go on; until then it is offline for all who ask.
package registry
