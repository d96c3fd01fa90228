// Package link has the carriers of a session: QUIC connections, with mutual TLS.
// It is the only package of the product that knows quic-go; package tunnel is its
// only user. A carrier is a Conn with lanes, ordered one-way pipes of frames;
// what quic-go has becomes plain types here: codes of package wire instead of
// numbers, ConnError instead of quic-go's error types, and a UDP socket that
// survives the loss of an address.
//
// A Transport is one UDP socket. It dials on an edge and listens on the cloud.
package link
