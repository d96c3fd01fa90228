// Package reach tells whether a cloud proxy can be reached, before anybody has an
// identity or spends a token: by UDP with a QUIC packet of a version that does not
// exist, which every QUIC server answers with the list of those it speaks, and by
// TCP with a TLS handshake.
package reach
