// Package pki holds whom this edge is for OPC UA servers, and which servers it
// believes: its own certificate and key, certificates that somebody trusts,
// issuers with their revocation lists, and those that were rejected (OPC UA Part 4,
// 6.1.3; the directory's layout is Part 12's).
//
//	own/cert.der own/key.pem      made at the first start
//	trusted/*.der                 certificates trusted as they are
//	issuers/*.der issuers/*.crl   whose certificates are trusted, and what they revoked
//	rejected/FINGERPRINT.der      what a server showed and nobody trusts; the newest 64
package pki
