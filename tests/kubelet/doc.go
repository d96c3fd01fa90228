// Package kubelet joins the two ends of the kubelet API, the cloud's front and
// the edge's server, which never import each other, and drives them with
// kubectl's own client code. It holds tests only.
package kubelet
