// Package jointoken is the join token and its Secret: how it is written, read,
// and what a use of it does. It decides from bytes and a time only; the service
// and the CLI do the requests.
//
// The Secret is Kubernetes' own kind, kube-system/bootstrap-token-ID of type
// bootstrap.kubernetes.io/token, so that kubectl lists it and the token cleaner of
// kube-controller-manager, where it runs, removes it. It has no
// usage-bootstrap-authentication: the token opens the enrolment port and nothing
// of the Kubernetes API. Keys of our own:
//
//	usage-skerry-join  "true"
//	skerry-node        the only node name it is good for; absent: any
//	skerry-uses        uses left; absent: no limit until it expires
//	skerry-used        JSON, the last uses: who, with which key, when
package jointoken
