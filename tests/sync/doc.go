// Package sync joins the cloud's and the edge's halves of desired state and of
// reports, which never import each other, and checks what they do together in cases
// that are written down; those that are drawn are in package model. It holds tests
// only.
package sync
