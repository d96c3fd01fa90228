package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/standing"
)

// certificate is what is known of an edge's, also while it is offline.
type certificate struct {
	// NotBefore and NotAfter are of the certificate.
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// CA is the hash of the CA that signed it, CANotAfter the end of that, zero when the
	// CA is not known or was replaced.
	CA         string    `json:"ca,omitempty"`
	CANotAfter time.Time `json:"caNotAfter,omitzero"`
}

// cas gives the CAs that joins are told. Without the right to read them less is shown.
func (q *query) cas(ctx context.Context) []*x509.Certificate {
	info, err := enroll.ReadInfo(ctx, q.client, q.namespace)
	if err != nil {
		return nil
	}
	list, err := certs.ParseBundle(info.CA)
	if err != nil {
		return nil
	}
	return list
}

// certificateOf reads what a Node tells, nil when it tells nothing.
func certificateOf(node *corev1.Node, cas []*x509.Certificate) *certificate {
	note, err := standing.ReadNote(node)
	if err != nil {
		return nil
	}
	c := &certificate{NotBefore: note.NotBefore, NotAfter: note.NotAfter, CA: note.CA}
	for _, ca := range cas {
		if certs.HashCA(ca).String() == note.CA {
			c.CANotAfter = ca.NotAfter.UTC()
		}
	}
	return c
}

// expiry is how long something is good.
func expiry(end, now time.Time) string {
	switch {
	case end.IsZero():
		return ""
	case now.After(end):
		return "expired " + age(end, now) + " ago"
	}
	return "in " + duration.HumanDuration(end.Sub(now))
}

const (
	// lateShare is the part of a certificate's life in which it should have been renewed
	// long ago: that is due when a third is left.
	lateShare = 6
	// caWarning is how long before its end a CA is warned of; one that lives less than
	// four times as long, in the last quarter of its life.
	caWarning = 180 * 24 * time.Hour
	// maxWarned bounds the edges that are warned of one by one.
	maxWarned = 5
)

// warn tells of what ends soon.
func (q *query) warn(w io.Writer, edges []edge, now time.Time) {
	for _, ca := range q.bundle {
		if left := ca.NotAfter.Sub(now); left < min(caWarning, ca.NotAfter.Sub(ca.NotBefore)/4) {
			fmt.Fprintf(w, "Warning: the CA %s expires %s; 'skerry ca rotate' puts a new one in its place\n", certs.HashCA(ca), expiry(ca.NotAfter, now))
		}
	}
	warned := 0
	for i := range edges {
		e := &edges[i]
		c := e.Certificate
		if c == nil || c.NotAfter.Sub(now) > c.NotAfter.Sub(c.NotBefore)/lateShare {
			continue
		}
		if warned++; warned > maxWarned {
			continue
		}
		why := "and was not renewed: the agent's log says why"
		if e.State != stateConnected {
			why = "and is renewed once the edge is back, within the cloud proxy's --edge-renewal-grace"
		}
		fmt.Fprintf(w, "Warning: the certificate of %s %s, %s\n", e.Node, endsOrEnded(c.NotAfter, now), why)
	}
	if warned > maxWarned {
		fmt.Fprintf(w, "Warning: so do those of %d more edges; -o wide shows all\n", warned-maxWarned)
	}
}

func endsOrEnded(end, now time.Time) string {
	if now.After(end) {
		return expiry(end, now)
	}
	return "expires " + expiry(end, now)
}
