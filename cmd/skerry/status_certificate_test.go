package main

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/cloudproxy/standing"
	"github.com/skerry-io/skerry/cloudproxy/status"
)

const statusDay = 24 * time.Hour

// TestStatusExpiry reads the end of the certificate from the Node: also that of an edge
// which is not there.
func TestStatusExpiry(t *testing.T) {
	a, c := newStatusAPI(t)
	now := time.Now()
	a.add("press-07", corev1.ConditionTrue, "", status.Session{Connected: true, Since: now, SessionSince: now})
	a.add("quarry", corev1.ConditionUnknown, "no session since "+now.Add(-5*time.Minute).UTC().Format(time.RFC3339), status.Session{})
	a.add("silent", corev1.ConditionTrue, "", status.Session{Connected: true, Since: now, SessionSince: now})
	note := func(node string, begun, left time.Duration) {
		a.nodes[node].Annotations[standing.Annotation] = standing.Note{CA: "x", NotBefore: now.Add(-begun), NotAfter: now.Add(left)}.String()
	}
	note("press-07", 2*statusDay, 28*statusDay+time.Hour)
	note("quarry", 33*statusDay, -3*statusDay-time.Hour)
	out, err := execute(t, statusCommand(c), "-o", "wide")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"   in 28d ", "   expired 3d1h ago ", "Warning: the certificate of quarry expired 3d1h ago, and is renewed once the edge is back"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "certificate of press-07") || strings.Contains(out, "certificate of silent") {
		t.Errorf("warned of what is well:\n%s", out)
	}
	out, err = execute(t, statusCommand(c), "quarry", "-o", "yaml")
	if err != nil || !strings.Contains(out, "certificate:\n  ca: x\n  notAfter: \""+now.Add(-3*statusDay - time.Hour).Format(time.RFC3339)[:10]) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestStatusWarnings(t *testing.T) {
	now := time.Now()
	ca := func(begun, left time.Duration) *x509.Certificate {
		return &x509.Certificate{NotBefore: now.Add(-begun), NotAfter: now.Add(left)}
	}
	with := func(begun, left time.Duration, state string) edge {
		return edge{Node: "e", State: state, Certificate: &certificate{NotBefore: now.Add(-begun), NotAfter: now.Add(left)}}
	}
	for _, tt := range []struct {
		name  string
		cas   []*x509.Certificate
		edges []edge
		want  []string // the start of each warning
	}{
		{"all is well", []*x509.Certificate{ca(statusDay, 3649*statusDay)}, []edge{with(19*statusDay, 11*statusDay, stateConnected), {Node: "x"}}, nil},
		{"renewal is due, as it is for days", nil, []edge{with(22*statusDay, 8*statusDay, stateConnected)}, nil},
		{"renewal is late", nil, []edge{with(27*statusDay, 3*statusDay+time.Hour, stateConnected)}, []string{"the certificate of e expires in 3d1h, and was not renewed"}},
		{"lives of seconds", nil, []edge{with(10*time.Second, 5*time.Second, stateConnected)}, nil},
		{"CA of ten years", []*x509.Certificate{ca(3500*statusDay, 150*statusDay+time.Hour)}, nil, []string{"the CA sha256:"}},
		{"CA of a month", []*x509.Certificate{ca(20*statusDay, 10*statusDay)}, nil, nil},
		{"CA of a month, at its end", []*x509.Certificate{ca(25*statusDay, 5*statusDay)}, nil, []string{"the CA sha256:"}},
		{"many", nil, []edge{
			with(30*statusDay, 0, ""), with(30*statusDay, 0, ""), with(30*statusDay, 0, ""),
			with(30*statusDay, 0, ""), with(30*statusDay, 0, ""), with(30*statusDay, 0, ""), with(30*statusDay, 0, ""),
		}, append([]string{}, "the certificate", "the certificate", "the certificate", "the certificate", "the certificate", "so do those of 2 more")},
	} {
		var b bytes.Buffer
		(&query{bundle: tt.cas}).warn(&b, tt.edges, now)
		var got []string
		for i, line := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
			line = strings.TrimPrefix(line, "Warning: ")
			if i < len(tt.want) && strings.HasPrefix(line, tt.want[i]) {
				line = tt.want[i]
			}
			if line != "" {
				got = append(got, line)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
