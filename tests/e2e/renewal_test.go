package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lifetime of the certificates in TestRenewal; two thirds of it are between renewals.
const lifetime = 15 * time.Second

// TestRenewal renews an edge's certificate every ten seconds while somebody types, has
// it expire while the agent is off, and revokes it.
func TestRenewal(t *testing.T) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		must(t, theLab.RestartProxy(ctx))
		must(t, edge1.WaitReady(ctx, patience))
	})
	must(t, theLab.RestartProxy(t.Context(), "--edge-certificate-lifetime", lifetime.String()))
	e := newEdge(t)
	ns := newNamespace(t)
	runPod(t, newPod(ns, "p", e, shell("main", idle)))
	expires := func() time.Time { return credentialsOf(t, e).leaf.NotAfter }
	key := readFile(t, filepath.Join(e.ConfigDir(), "pki", "edge.key"))

	typing := &talk{name: "exec", args: []string{"-n", ns, "exec", "-i", "p", "--", "sh", "-c", "echo ready; cat"}, types: true}
	typing.start(t)
	first := expires()
	eventually(t, "three renewals", func() error {
		if typing.ended() {
			t.Fatalf("the command has ended: %s", typing.errs.text())
		}
		if now := expires(); now.Before(first.Add(2 * lifetime)) {
			return fmt.Errorf("the certificate ends %s, the first did %s", now, first)
		}
		return nil
	})
	typing.stopTyping(t)
	typing.wait(t)
	if err := typing.check(typing.out.text()); err != nil || typing.exit != 0 {
		t.Errorf("exit code %d, %v, %s", typing.exit, err, typing.errs.text())
	}
	t.Logf("%d bytes were typed, the longest pause was %v", typing.out.length(), typing.out.longestGap(first.Add(-lifetime)))
	st, err := os.Stat(filepath.Join(e.ConfigDir(), "pki", "edge.key"))
	must(t, err)
	if st.Mode().Perm() != 0o600 || readFile(t, filepath.Join(e.ConfigDir(), "pki", "edge.key")) != key {
		t.Errorf("the key has changed, or its mode %v", st.Mode())
	}

	must(t, e.StopAgent(t.Context()))
	time.Sleep(time.Until(expires().Add(3 * time.Second))) //nolint:forbidigo // a real certificate has to expire
	must(t, e.StartAgent(t.Context()))
	eventually(t, "a certificate after the end of the last", func() error {
		if left := time.Until(expires()); left < 0 {
			return fmt.Errorf("it ended %v ago", -left)
		}
		return nil
	})
	eventually(t, "a command", func() error { return try(t, "-n", ns, "exec", "p", "--", "true").err })

	before := readFile(t, e.AgentLog())
	_, err = theLab.CLI(t.Context(), "revoke", e.Name)
	must(t, err)
	eventually(t, "the edge to be refused after its certificate has expired", func() error {
		if time.Now().Before(expires().Add(time.Second)) {
			return fmt.Errorf("it is good until %s", expires())
		}
		if said, _ := strings.CutPrefix(readFile(t, e.AgentLog()), before); !strings.Contains(said, "with a new token") || !strings.Contains(said, "was revoked") {
			return fmt.Errorf("%s does not say that it was revoked, and what to do", e.AgentLog())
		}
		return nil
	})
}
