// Package standing knows how the edges that are connected to this proxy stand with
// certificates: which one they have, until when, and which CAs they trust. Edges that
// stand otherwise than the cluster's CAs want it, which is while the CA is rotated, it
// tells so; they renew through their session. What is known goes to the edge's Node as an
// annotation, where the other replicas and `skerry ca` find it.
package standing
