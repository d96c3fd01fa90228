package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tunnel/dictionary"
)

// TestDictionaryIsWhatThisMakes: dictionary 1 is for good. What changes the
// samples makes another, with another number.
func TestDictionaryIsWhatThisMakes(t *testing.T) {
	made := filepath.Join(t.TempDir(), "v1.dict")
	if err := run(made); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../tunnel/dictionary/v1.dict")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("tunnel/dictionary/v1.dict is not what this program makes")
	}
}

// TestRatio measures objects that the dictionary was not made of.
func TestRatio(t *testing.T) {
	e, err := dictionary.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	s := newSampler(2)
	stranger := func() object {
		return &corev1.Pod{
			ObjectMeta: s.meta("kiosk-" + s.text(5, "abc")),
			Spec: corev1.PodSpec{NodeName: "store-17", Containers: []corev1.Container{{
				Name: "ui", Image: "ghcr.io/acme/kiosk-ui:2026.11", Env: []corev1.EnvVar{{Name: "SCREEN", Value: ":0"}},
			}}},
		}
	}
	for _, tt := range []struct {
		name string
		make func() object
		max  float64 // of what it was
	}{
		{"pod", s.pod, 0.35},
		{"pod with everything", s.fullPod, 0.3},
		{"pod of a DaemonSet", s.daemonPod, 0.25},
		{"pod like no other", stranger, 0.95},
		{"ConfigMap", s.configMap, 0.4},
		{"CA", s.rootCA, 0.6},
		{"Secret", s.secret, 0.85},
		{"token", s.token, 0.85},
	} {
		plain, packed := 0, 0
		for range 50 {
			b, err := tt.make().Marshal()
			if err != nil {
				t.Fatal(err)
			}
			_, z := e.Encode(b)
			plain += len(b)
			packed += len(z)
		}
		ratio := float64(packed) / float64(plain)
		t.Logf("%-20s %5d bytes -> %4d (%.0f %%)", tt.name, plain/50, packed/50, 100*ratio)
		if ratio > tt.max {
			t.Errorf("%s: %.2f of what it was, want at most %.2f", tt.name, ratio, tt.max)
		}
	}
}
