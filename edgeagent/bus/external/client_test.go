package external

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/skerry-io/skerry/edgeagent/bus"
	"github.com/skerry-io/skerry/edgeagent/bus/embedded"
)

// TestConnect: what is wrong with a configuration is said.
func TestConnect(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := file("users", fmt.Sprintf(`users: [{name: edge, passwordHash: %q, publish: ["skerry/#"]}]`, hash))
	b, err := embedded.New(embedded.Config{Listen: "127.0.0.1:0", UsersFile: users, Command: func(bus.Command) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	up, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- b.Run(ctx, func(ctx context.Context, _ bus.Broker) error { close(up); <-ctx.Done(); return nil })
	}()
	<-up
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	addr := b.Addr().String()
	for name, test := range map[string]struct {
		cfg  Config
		want string
	}{
		"wrong password":   {Config{Broker: "mqtt://" + addr, UserName: "edge", PasswordFile: file("wrong", "x")}, "check bus.userName and bus.passwordFile"},
		"no password file": {Config{Broker: "mqtt://" + addr, UserName: "edge", PasswordFile: "/nonexistent"}, "bus.passwordFile"},
		"no CA file":       {Config{Broker: "mqtts://" + addr, CAFile: "/nonexistent"}, "bus.caFile"},
		"no CA":            {Config{Broker: "mqtts://" + addr, CAFile: users}, "no certificate in PEM"},
		"nobody there":     {Config{Broker: "mqtt://127.0.0.1:1"}, "refused"},
	} {
		test.cfg.Node, test.cfg.Command = "edge", func(bus.Command) {}
		c, err := New(test.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.session(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		// What is retained waits, what is not is lost.
		if err := c.Publish(t.Context(), bus.Message{Topic: "a", Payload: []byte("1"), Retain: true}); err != nil || c.Connected() {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Publish(t.Context(), bus.Message{Topic: "a"}); err == nil {
			t.Errorf("%s: sent without a connection", name)
		}
	}
}
