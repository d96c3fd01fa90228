// Package sync joins the cloud's and the edge's halves of desired state and of
// reports, which never import each other, and checks what they do together. It
// holds tests only.
package sync
