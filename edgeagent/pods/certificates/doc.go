// Package certificates makes the keys of certificates that pods project (KEP-4317), has
// them certified through the cloud, and keeps both for package volumes to show.
//
// A key is made here and never leaves this machine: it is in memory, in the volume of its
// pod, and sealed in the store. What goes up is a PKCS#10 request that is signed with it;
// the cloud makes a PodCertificateRequest of that, and the answer of the signer comes down
// as desired state under the request's name, which follows from its bytes.
//
//	no key ──▶ asked ──▶ issued ──▶ asked again, at its time ──▶ issued
//	             │                      │
//	             └──────▶ refused ◀─────┘   until the next agent
//
// As with a kubelet a certificate is renewed when its signer says, up to five minutes
// later, and one that is refused is not asked for again by the same agent. Unlike a
// kubelet, an agent that starts goes on with what is there: it may have no cloud to ask.
// What was issued stays in its volume until something newer comes, whatever becomes of
// renewals and however long the edge is offline.
//
// A request that nobody answers is sent again every ten minutes or so, since in the API
// it lives for half an hour: while it is there that changes nothing.
package certificates
