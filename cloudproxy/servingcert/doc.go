// Package servingcert keeps the certificate that the kubelet front shows to
// kube-apiserver. A cluster whose kube-apiserver has
// --kubelet-certificate-authority takes only what that authority has signed, so
// the Keeper asks for a certificate as a kubelet does: by a
// CertificateSigningRequest for the signer kubernetes.io/kubelet-serving. All
// Nodes of edges have the proxy's address, so one certificate is for all.
//
// Key and certificate lie in a Secret that all replicas share. So does the key of
// a request that is not answered yet, from which the request's name follows: a
// restart or a second replica waits for the same request, which matters where a
// person approves it. Each pass reads what is there and does what is missing; what
// two replicas write at once, the API server lets one write.
//
// Until there is a certificate, and when it has run out, the product's own CA
// serves, which is enough where kube-apiserver does not verify.
package servingcert
