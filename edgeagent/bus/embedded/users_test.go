package embedded

import (
	"os"
	"strings"
	"testing"
)

func TestParseUsers(t *testing.T) {
	for text, want := range map[string]string{
		someUsers: "",
		"":        "",
		"users: [{name: a, passwordHash: secret}]":                                                       "htpasswd -nbB a PASSWORD",
		"users: [{name: a, passwordHash: $2y$14$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu}]": "cost 14",
		"users: [{name: a, passwordHash: HASH}, {name: a, passwordHash: HASH}]":                          `another user "a"`,
		"users: [{passwordHash: HASH}]":                                                                  "1 to 128 bytes",
		"users: [{name: a, passwordHash: HASH, publish: ['a/#/b']}]":                                     `publish: "a/#/b" is no filter`,
		"anonymous: {subscribe: ['$SYS/#']}":                                                             `anonymous: subscribe: "$SYS/#" is no filter`,
		"users: [{name: a, passwordHash: HASH, password: x}]":                                            `unknown field "password"`,
		"anonymous: {subscribe: [" + strings.Repeat("a,", maxFilters+1) + "]}":                           "64 are the most",
		"users: [" + strings.Repeat("{name: a, passwordHash: HASH},", maxUsers+1) + "]":                  "256 are the most",
	} {
		_, err := ParseUsers([]byte(usersText(t, text)))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v, want %q", text, err, want)
		}
	}
}

// TestUsersChange: who has other rights must connect again, the others stay; a file that
// can't be used changes nothing.
func TestUsersChange(t *testing.T) {
	b := start(t, nil)
	hmi, pod := b.must("hmi", nil), b.must("pod", nil)
	old, err := os.ReadFile(b.users)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"users: [{name: x}]": "htpasswd", "nonsense": "users"} {
		write(t, b.users, text)
		if changed, err := b.Broker.users.reload(); changed || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %t, %v", text, changed, err)
		}
		if changed, err := b.Broker.users.reload(); changed || err != nil {
			t.Errorf("the same again: %t, %v", changed, err)
		}
	}
	write(t, b.users, strings.Replace(string(old), `"pod/#"]}`, `"pod/y"]}`, 1))
	if err := os.Chmod(b.users, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Broker.users.reload(); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("for everybody: %v", err)
	}
	if err := os.Chmod(b.users, 0o640); err != nil {
		t.Fatal(err)
	}
	<-pod.Done() // the file is looked at again by itself
	if got := hmi.codes("a"); got[0] >= 0x80 {
		t.Errorf("%x", got)
	}
	if got := b.must("pod", nil).code(testMessage("pod/x")); got < 0x80 {
		t.Errorf("with a right that is gone: %x", got)
	}
}

func TestNoUsers(t *testing.T) {
	_, err := New(Config{Listen: "127.0.0.1:0", UsersFile: "/nonexistent", Command: start(t, nil).command})
	if err == nil || !strings.Contains(err.Error(), "bus.usersFile must name a file") {
		t.Error(err)
	}
}
