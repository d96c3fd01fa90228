package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// serve runs a control server over a link that has no devices.
func serve(t *testing.T) (l *link, sock string, done <-chan error) {
	t.Helper()
	l = newLink(nil, nil, settings{}, 1)
	sock = filepath.Join(t.TempDir(), "ctl")
	srv, err := listenControl(t.Context(), sock, l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	errc := make(chan error, 1)
	go func() { errc <- srv.run(ctx); close(errc) }()
	t.Cleanup(func() {
		cancel()
		<-errc
	})
	return l, sock, errc
}

func say(t *testing.T, sock, words string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := control(t.Context(), append([]string{sock}, strings.Fields(words)...), &out)
	return strings.TrimSpace(out.String()), err
}

func TestControl(t *testing.T) {
	l, sock, done := serve(t)
	b, err := lookupProfile("B")
	if err != nil {
		t.Fatal(err)
	}
	both := func(ab, ba settings) {
		t.Helper()
		if l.ab.settings() != ab || l.ba.settings() != ba {
			t.Errorf("settings are %+v and %+v", l.ab.settings(), l.ba.settings())
		}
	}
	for _, words := range []string{"profile B", "set outage=1", "seta outage=0", "nat 1000"} {
		if got, err := say(t, sock, words); got != "ok" || err != nil {
			t.Errorf("%s: got %q, %v", words, got, err)
		}
	}
	cut := b
	cut.outage = true
	both(b, cut)
	if l.nat.offset != 1000 {
		t.Errorf("nat offset is %d", l.nat.offset)
	}
	l.ab.enter(udpPacket(7443, 1, nil), start)
	if got, err := say(t, sock, "stats"); err != nil || !strings.HasPrefix(got, "a->b in=1 out=0 lost=0 queue_dropped=0 cut=0 nat_dropped=1 in_bytes=28") {
		t.Errorf("stats: %q, %v", got, err)
	}

	for words, want := range map[string]string{
		"set":               "set wants key=value",
		"set loss=2":        "want a number from 0 to 1",
		"set outage=0 x=1":  `no key "x"`,
		"profile":           "profile wants one name",
		"profile Z":         `no profile "Z"`,
		"nat":               "nat wants one number",
		"nat 70000":         "want an offset",
		"jump":              `no word "jump"`,
		"set outage=0 loss": "is not key=value",
	} {
		if _, err := say(t, sock, words); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", words, err, want)
		}
	}
	both(b, cut) // a wrong line changes nothing

	if got, err := say(t, sock, "quit"); got != "ok" || err != nil {
		t.Errorf("quit: %q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if _, err := say(t, sock, "stats"); err == nil || !strings.Contains(err.Error(), "no emulator answers") {
		t.Errorf("got %v after quit", err)
	}
}

func TestControlTakenSocket(t *testing.T) {
	_, sock, _ := serve(t)
	if _, err := listenControl(t.Context(), sock, nil); err == nil || !strings.Contains(err.Error(), "another emulator answers") {
		t.Errorf("got %v", err)
	}
}

func TestRunBadFlags(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no device", []string{"-b", "x", "-ctl", "y"}, "flag -a is required"},
		{"bad profile", []string{"-a", "x", "-b", "x", "-ctl", "y", "-profile", "Q"}, `no profile "Q"`},
		{"bad setting", []string{"-a", "x", "-b", "x", "-ctl", "y", "-set", "loss=9"}, "loss=9"},
		{"long name", []string{"-a", "sixteen-letters-", "-b", "x", "-ctl", "y"}, "1 to 15 characters"},
		{"no namespace", []string{"-a", "x@linkemu-not-there", "-b", "x", "-ctl", "y"}, "no such file"},
		{"ctl without words", []string{"ctl"}, "want linkemu ctl"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(t.Context(), tt.args, &out, &errs); code != 1 || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("exit code %d, output %q, want 1 and %q", code, errs.String(), tt.want)
			}
		})
	}
}
