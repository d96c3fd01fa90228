// Package certs says who a peer is. An identity is one URI SAN in a certificate
// that our CA signed, and nothing else: no header, no claimed name, no subject.
//
// Both halves and the CLI use it. It is a leaf: it imports the standard library
// only. Package issuer holds the CA and signs, package bootstrap turns a join
// token into an edge's files. DESIGN.md has the flow and the threats.
package certs
