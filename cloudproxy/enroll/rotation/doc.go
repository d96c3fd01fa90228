// Package rotation is the Secret of the cluster's CA, and what a rotation does to it.
// It decides from bytes only; the service and the CLI do the requests.
//
// The Secret is of type kubernetes.io/tls, so that an operator or a tool can bring a CA
// of their own. Keys beside Kubernetes' own:
//
//	tls.crt, tls.key    the CA: it signs the proxies' certificates, and those of edges
//	                    unless the phase is move
//	next.crt, next.key  the CA that is to take its place
//	phase               trust or move, while there is a next one
//	retired.crt         CAs that were replaced: edges that missed it renew once more
//	links.crt           each CA's name and key, signed by the one before (certs.Follow)
//
// A rotation goes idle -> trust -> move -> idle. In trust, edges come to trust both, and
// every replica to take certificates of both. In move, edges get certificates of the next
// one. Then it takes the place of the old one, whose key is gone from then on.
package rotation
