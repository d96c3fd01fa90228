package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
)

// edgeStatus is what the CLI's JSON says of an edge.
type edgeStatus struct {
	Node, State, Link, Remote, AgentVersion, Problem string
	Streams                                          int
	BytesSent, BytesReceived                         uint64
}

func status(t *testing.T, edge string) (edgeStatus, error) {
	t.Helper()
	out, err := theLab.CLI(t.Context(), "status", edge, "-o", "json")
	if err != nil {
		return edgeStatus{}, err
	}
	var s edgeStatus
	return s, json.Unmarshal([]byte(out), &s)
}

// TestStatus asks with a kubeconfig alone: the answer comes through kube-apiserver.
func TestStatus(t *testing.T) {
	t.Parallel()
	s, err := status(t, edge1.Name)
	must(t, err)
	host, _, err := net.SplitHostPort(s.Remote)
	if s.Node != edge1.Name || s.State != "connected" || s.Link == "" || err != nil || host != edge1.Addr().String() ||
		s.AgentVersion == "" || s.Streams == 0 || s.BytesSent == 0 || s.BytesReceived == 0 || s.Problem != "" {
		t.Errorf("status %+v, %v", s, err)
	}
	table, err := theLab.CLI(t.Context(), "status")
	must(t, err)
	if !strings.HasPrefix(table, "NAME ") || !strings.Contains(table, "\n"+edge1.Name+" ") {
		t.Errorf("table:\n%s", table)
	}
	for name, words := range map[string][]string{
		"nosuch":  {"no edge nosuch", "skerry status"},
		"No_Name": {"No_Name"},
	} {
		_, err := theLab.CLI(t.Context(), "status", name)
		fails(t, err, words...)
		if code := resultOf(t, "", err).code; code != 1 {
			t.Errorf("status %s: exit code %d, want 1", name, code)
		}
	}
}

func TestStatusOfLostEdge(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	wait := func(want string) {
		t.Helper()
		eventually(t, "edge to be "+want, func() error {
			s, err := status(t, e.Name)
			if err == nil && s.State != want {
				err = fmt.Errorf("it is %s", s.State)
			}
			return err
		})
	}
	wait("connected")
	must(t, e.SetLink(t.Context(), "set", "outage=1"))
	wait("offline")
	table, err := theLab.CLI(t.Context(), "status", e.Name)
	must(t, err)
	if !strings.Contains(table, "offline since ") {
		t.Errorf("table:\n%s", table)
	}
	must(t, e.SetLink(t.Context(), "set", "outage=0"))
	wait("connected")
}
