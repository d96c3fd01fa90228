package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var settingsCmp = cmp.AllowUnexported(settings{})

func TestSettingsWith(t *testing.T) {
	base := settings{loss: 0.5}
	got, err := base.with(strings.Fields("mbit=5 queue=125000 delay=150ms jitter=2ms loss=0.05 gep=0.1 ger=0.2 gel=1 reorder=0.01 rodelay=9ms outage=1 udpblock=1"))
	if err != nil {
		t.Fatal(err)
	}
	want := settings{
		rate: 625_000, queue: 125_000, delay: 150 * time.Millisecond, jitter: 2 * time.Millisecond, loss: 0.05,
		geP: 0.1, geR: 0.2, geLoss: 1, reorder: 0.01, reorderDelay: 9 * time.Millisecond, outage: true, udpBlock: true,
	}
	if d := cmp.Diff(want, got, settingsCmp); d != "" {
		t.Error(d)
	}
	got, err = got.with([]string{"outage=0"})
	if want.outage = false; err != nil || got != want {
		t.Errorf("one key changed more than itself: %+v, %v", got, err)
	}
}

func TestSettingsWithBadInput(t *testing.T) {
	tests := []struct{ words, want string }{
		{"loss", `"loss" is not key=value`},
		{"los=1", `no key "los": there are mbit, queue, delay`},
		{"loss=1.1", "loss=1.1: want a number from 0 to 1"},
		{"loss=-0.1", "want a number from 0 to 1"},
		{"loss=NaN", "want a number from 0 to 1"},
		{"loss=", "want a number from 0 to 1"},
		{"mbit=fast", "mbit=fast: want a number"},
		{"mbit=1e9", "want a number"},
		{"mbit=5", "mbit needs queue"},
		{"queue=10", "want bytes, at least 2000"},
		{"queue=1e6", "want bytes"},
		{"delay=30", "want a duration such as 150ms"},
		{"delay=-1s", "want a duration"},
		{"jitter=61s", "at most 1m"},
		{"outage=yes", "outage=yes: want 0 or 1"},
		{"udpblock=2", "want 0 or 1"},
		{"gep=0.1", "gep needs ger"},
	}
	for _, tt := range tests {
		t.Run(tt.words, func(t *testing.T) {
			_, err := settings{}.with(strings.Fields(tt.words))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestProfiles(t *testing.T) {
	for _, p := range profiles() {
		if _, err := p.settings.with(nil); err != nil {
			t.Errorf("profile %s breaks the rules of set: %v", p.name, err)
		}
	}
	d, err := lookupProfile("d")
	if err != nil || d.delay != 150*time.Millisecond || d.loss != 0.05 || d.rate != 625_000 {
		t.Errorf("profile D is %+v, %v", d, err)
	}
	if _, err := lookupProfile("F"); err == nil || !strings.Contains(err.Error(), "there are none, A, B, C, D, E") {
		t.Errorf("got %v, want an error that lists the profiles", err)
	}
}

func FuzzSettingsWith(f *testing.F) {
	f.Add("mbit=5 queue=125000 delay=150ms loss=0.05")
	f.Add("gep=0.1 ger=0.2 gel=1 outage=1")
	f.Add("loss=0x1p-2 mbit==")
	f.Fuzz(func(t *testing.T, words string) {
		s, err := settings{}.with(strings.Fields(words))
		if err != nil {
			return
		}
		// Whatever is accepted, the line can work with.
		l := newLine(s, 1)
		now := time.Unix(0, 0)
		if at, v := l.admit(now, 1500, true); v == deliver && at.Before(now) {
			t.Errorf("%q delivers into the past", words)
		}
	})
}
