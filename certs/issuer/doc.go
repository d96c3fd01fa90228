// Package issuer is the certificate authority of one cluster: it makes the CA,
// signs edges' certificates and the proxy's own. It decides nothing about who may
// have one; cloudproxy/enroll does.
package issuer
