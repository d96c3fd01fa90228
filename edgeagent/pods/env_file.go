package pods

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// fromFile gives a variable that a file in a volume of the pod sets; an init container
// wrote it. Empty counts as absent, as with kubelets.
func (e *env) fromFile(pod *corev1.Pod, ref *corev1.FileKeySelector) (value string, present bool, err error) {
	v := volumeNamed(pod, ref.VolumeName)
	if v == nil {
		return "", false, fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", ref.VolumeName)
	}
	b, err := e.volumes.EnvFile(pod, v, ref.Path)
	if err == nil {
		value, err = variableIn(string(b), ref.Key)
	}
	if err != nil {
		e.Log.Warn("file of variables not usable", "pod", pod.Name, "namespace", pod.Namespace, "path", ref.Path, "error", err)
		return "", false, errors.New("couldn't parse env file")
	}
	if value == "" && (ref.Optional == nil || !*ref.Optional) {
		return "", false, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, ref.Path)
	}
	return value, value != "", nil
}

// variableIn finds a variable in a file of lines KEY='value': what a shell reads, too,
// and nothing else. A value may span lines, a # begins a comment.
func variableIn(text, key string) (string, error) {
	rest, line := text, 0
	next := func() string {
		var s string
		s, rest, _ = strings.Cut(rest, "\n")
		line++
		return strings.TrimSuffix(s, "\r")
	}
	for rest != "" {
		s := strings.TrimLeft(next(), " \t")
		if s == "" || s[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(s, "=")
		switch {
		case !ok:
			return "", fmt.Errorf("line %d: missing '='", line)
		case name == "" || strings.TrimRight(name, " \t") != name:
			return "", fmt.Errorf("line %d: %q is no name of a variable", line, name)
		case strings.HasPrefix(value, " ") || strings.HasPrefix(value, "\t"):
			if name == key { // to a shell it is empty
				return "", nil
			}
			continue
		case !strings.HasPrefix(value, "'"):
			return "", fmt.Errorf("line %d: the value must be in single quotes", line)
		}
		value, after, closed := strings.Cut(value[1:], "'")
		for began := line; !closed; {
			if rest == "" {
				return "", fmt.Errorf("line %d: unclosed single quote", began)
			}
			var more string
			more, after, closed = strings.Cut(next(), "'")
			value += "\n" + more
		}
		if after = strings.TrimLeft(after, " \t"); after != "" && after[0] != '#' {
			return "", fmt.Errorf("line %d: unexpected content after closing quote", line)
		}
		if name == key {
			return value, nil
		}
	}
	return "", nil
}
