// Package link has the carriers of a session: QUIC connections, and TLS over TCP
// for networks that let no UDP through; both with mutual TLS 1.3. It is the only
// package of the product that knows quic-go; package tunnel is its only user. A
// carrier is a Conn with lanes, ordered one-way pipes of frames; what quic-go and
// crypto/tls have becomes plain types here: codes of package wire instead of
// numbers, ConnError instead of their error types, and a UDP socket that survives
// the loss of an address.
//
// A Transport is one UDP socket. It dials on an edge and listens on the cloud.
// DialTLS and ListenTLS are its counterparts for TCP.
package link
