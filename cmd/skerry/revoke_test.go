package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// TestRevokeInSpiteOfTokens: a token that can't be deleted must not keep the
// machine in.
func TestRevokeInSpiteOfTokens(t *testing.T) {
	c, _ := newCluster(t)
	if _, err := execute(t, tokenCommand(c), "create", "--node", "press-07"); err != nil {
		t.Fatal(err)
	}
	client, err := c.client()
	if err != nil {
		t.Fatal(err)
	}
	fakeClient, ok := client.(*fake.Clientset)
	if !ok {
		t.Fatalf("client is a %T", client)
	}
	fakeClient.PrependReactor("delete", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("no right")
	})
	out, err := execute(t, revokeCommand(c), "press-07")
	if err == nil || !strings.Contains(err.Error(), "no right") {
		t.Errorf("got %v, want the token's error", err)
	}
	if !strings.Contains(out, "node press-07 revoked") || !strings.Contains(out, "check the name") {
		t.Errorf("printed:\n%s", out)
	}
	cm, err := client.CoreV1().ConfigMaps(c.namespace).Get(t.Context(), "skerry-revoked", metav1.GetOptions{})
	if err != nil || cm.Data["press-07"] == "" {
		t.Errorf("%+v, %v", cm, err)
	}
}

// TestRevokeWhereNoProxyIs would have no effect, and must not say it had.
func TestRevokeWhereNoProxyIs(t *testing.T) {
	c, _ := newCluster(t)
	out, err := execute(t, revokeCommand(c), "press-07", "--namespace", "default")
	if err == nil || !strings.Contains(err.Error(), "is --namespace right?") || strings.Contains(out, "revoked") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestResetFindsTheStateDirOfTheJoin(t *testing.T) {
	c, _ := newCluster(t)
	line, err := execute(t, tokenCommand(c), "create", "--node", "press-07")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	if out, err := m.join(t, line); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := execute(t, resetCommand(&reset{unit: m.unit}), "--yes", "--config-dir", m.configDir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(m.stateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory is left (%v)", err)
	}
}

// TestCtrlCEndsReset before its next step.
func TestCtrlCEndsReset(t *testing.T) {
	m := newMachine(t)
	if err := os.WriteFile(filepath.Join(m.unit.dir, unitName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m.unit.run = func(context.Context, ...string) error {
		cancel()
		return nil
	}
	if err := os.MkdirAll(m.stateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := claimStateDir(m.stateDir); err != nil {
		t.Fatal(err)
	}
	cmd := resetCommand(&reset{unit: m.unit})
	cmd.SetOut(io.Discard)
	cmd.SetArgs([]string{"--yes", "--config-dir", m.configDir, "--state-dir", m.stateDir})
	if err := cmd.ExecuteContext(ctx); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("got %v", err)
	}
	if !hasMarker(m.stateDir) {
		t.Error("the state directory was removed after Ctrl-C")
	}
}

// TestCtrlCEndsAQuestion that a terminal's read would wait on for ever.
func TestCtrlCEndsAQuestion(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	cancel()
	if _, err := interruptible(ctx, func() ([]byte, error) { return io.ReadAll(r) }); !errors.Is(err, errInterrupted) {
		t.Errorf("got %v", err)
	}
}
