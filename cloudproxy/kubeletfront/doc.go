// Package kubeletfront is the HTTPS server that kube-apiserver takes for the
// kubelet of every edge. Nodes of edges carry the proxy's address, so requests for
// all of them come here; each is authenticated, authorized, given to its edge over
// a stream of the tunnel, and told in one line of the log.
//
// Who asks is told by a client certificate of the cluster's client CA or by a
// bearer token (TokenReview); whether they may, by a SubjectAccessReview with the
// attributes that a kubelet uses: the resource is nodes, the name is the edge's.
// Unlike a kubelet, it demands the verb create for exec, attach and portForward
// also when they come as a WebSocket's GET. The headers by which the API
// aggregator names a user count for nothing: a client can send them through
// nodes/NAME/proxy, and they would come with kube-apiserver's certificate.
//
// Which edge is meant follows from the pod in the path, or, for paths that belong
// to a node, from X-Forwarded-Uri, which kube-apiserver sets on requests that do
// not upgrade. On those that do, a client's own value would get through, so there
// it counts for nothing. Its path must be the request's: with ".." in what a
// client asked for, kube-apiserver checks one node and tells another.
//
// Nodes may have ports of their own here (Config.Ports). The port that was dialled
// then says which edge is meant, whatever the request says, also for an upgrade.
//
// Logs and node paths cross the tunnel as the HTTP requests they are. SPDY and
// WebSocket end here: they cost a round trip for each of their streams, which on
// an edge's link is what a user waits for. A command crosses as frames and needs
// one round trip in all; attach is a command that is joined and not started. Of a
// port forwarding each connection is a stream of its own, whose request and first
// bytes go together.
package kubeletfront
