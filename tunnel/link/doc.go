// Package link is one carrier of a session: a QUIC connection with mutual TLS.
// It is the only package of the product that knows quic-go; package tunnel is
// its only user. It turns what quic-go has into plain types: codes of package
// wire instead of numbers, ConnError and ResetError instead of quic-go's error
// types, and a UDP socket that survives the loss of an address.
//
// A Transport is one UDP socket. It dials on an edge and listens on the cloud.
package link
