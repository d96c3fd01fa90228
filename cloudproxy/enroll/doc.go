// Package enroll gives edges their certificates and takes them back: it owns the
// cluster's CA, exchanges join tokens for certificates over HTTPS, publishes what
// a join command needs, and knows which nodes are revoked.
//
// Everything it keeps is in Kubernetes objects, so any number of replicas serve
// side by side:
//
//	Secret    kube-system/bootstrap-token-ID  one join token (package jointoken)
//	Secret    NAMESPACE/skerry-ca             the CA
//	ConfigMap NAMESPACE/skerry-info           address, CA certificate, cluster id
//	ConfigMap NAMESPACE/skerry-revoked        node name -> RFC 3339 time
package enroll
