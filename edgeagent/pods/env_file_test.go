package pods

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

func TestVariableIn(t *testing.T) {
	for _, tt := range []struct{ text, key, want, err string }{
		{text: "", key: "A"},
		{text: "# A='no'\n\n  A='yes' # and more\nA='late'\n", key: "A", want: "yes"},
		{text: "A='1'\nB='two\n# lines\n'\nC='3'", key: "B", want: "two\n# lines\n"},
		{text: "A='1'\nB='two\nlines'\nC='3'", key: "C", want: "3"},
		{text: "A='$X \"q\" \\n'\n", key: "A", want: `$X "q" \n`},
		{text: "A= 'x'\nB='y'\n", key: "B", want: "y"},
		{text: "A= 'x'\n", key: "A"},
		{text: "A='x'\r\nB='y'\r\n", key: "B", want: "y"},
		{text: "export A='1'\nB='2'\n", key: "B", want: "2"},
		{text: "export A='1'\n", key: "A"}, // to a shell it is one; to a kubelet its name is "export A"
		{text: "A\n", key: "A", err: "line 1: missing '='"},
		{text: "='x'\n", key: "A", err: "no name"},
		{text: "\nA ='x'\n", key: "A", err: "line 2"},
		{text: "A=x\n", key: "A", err: "single quotes"},
		{text: "A=\"x\"\n", key: "A", err: "single quotes"},
		{text: "A='x' y\n", key: "A", err: "after closing quote"},
		{text: "A='x\ny\n", key: "A", err: "line 1: unclosed"},
		{text: "A='x'\nB\n", key: "A", want: "x"}, // what comes later is not looked at
	} {
		got, err := variableIn(tt.text, tt.key)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s in %q is %q, %v; want %q, %s", tt.key, tt.text, got, err, tt.want, tt.err)
		}
	}
}

func FuzzVariableIn(f *testing.F) {
	f.Add("A='x'\nB='y\nz' # c\n", "B")
	f.Fuzz(func(t *testing.T, text, key string) {
		v, err := variableIn(text, key)
		if err == nil && !strings.Contains(strings.ReplaceAll(text, "\r\n", "\n"), v) {
			t.Errorf("%q is not in %q", v, text)
		}
	})
}

func TestVariablesOfFiles(t *testing.T) {
	e := testEnv(t)
	pod := newPod("p", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	})
	if err := e.volumes.SetUp(pod, downward.Facts{}); err != nil {
		t.Fatal(err)
	}
	dir := e.volumes.Path(pod, &pod.Spec.Volumes[0])
	if err := os.WriteFile(filepath.Join(dir, "vars"), []byte("A='x'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/vars", filepath.Join(dir, "link")); err != nil { // as its container sees it
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../../../etc/hostname", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ref       corev1.FileKeySelector
		want, err string
	}{
		{ref: corev1.FileKeySelector{VolumeName: "d", Path: "vars", Key: "A"}, want: "x"},
		{ref: corev1.FileKeySelector{VolumeName: "d", Path: "link", Key: "A"}, want: "x"},
		{ref: corev1.FileKeySelector{VolumeName: "d", Path: "vars", Key: "B"}, err: `environment variable key "B" not found in file "vars"`},
		{ref: corev1.FileKeySelector{VolumeName: "d", Path: "vars", Key: "B", Optional: new(true)}},
		{ref: corev1.FileKeySelector{VolumeName: "d", Path: "out", Key: "A"}, err: "couldn't parse env file"},
		{ref: corev1.FileKeySelector{VolumeName: "d", Path: "pipe", Key: "A"}, err: "couldn't parse env file"},
		{ref: corev1.FileKeySelector{VolumeName: "d", Path: "none", Key: "A", Optional: new(true)}, err: "couldn't parse env file"},
		{ref: corev1.FileKeySelector{VolumeName: "e", Path: "vars", Key: "A"}, err: `cannot find the volume "e" referenced by FileKeyRef`},
	} {
		got, present, err := e.valueFrom(pod, &pod.Spec.Containers[0], &corev1.EnvVarSource{FileKeyRef: &tt.ref}, downward.Facts{})
		if got != tt.want || err == nil && present != (tt.want != "") || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%+v: %q, %t, %v; want %q, %s", tt.ref, got, present, err, tt.want, tt.err)
		}
	}
}
