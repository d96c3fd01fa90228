// Package registry knows which edges are connected to this proxy, and is the way
// to them: DialEdge opens a stream to an edge, Handle serves the streams that
// edges open. Of several sessions of one edge the newest is kept, at once.
package registry
