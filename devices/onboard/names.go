package onboard

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxObject bounds the names of objects that are made, as labels are.
const maxObject = 63

// objectName makes a name of Kubernetes of words: lower case, digits and hyphens.
func objectName(words ...string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.Join(words, "-")) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := strings.Trim(b.String(), "-")
	if len(name) > maxObject {
		name = strings.TrimRight(name[:maxObject-9], "-") + "-" + short(strings.Join(words, "\x00"))
	}
	if name == "" {
		return "x-" + short(strings.Join(words, "\x00"))
	}
	return name
}

// propertyName makes a property's name of the names on the way to it.
func propertyName(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		parts[i] = strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.':
				return r
			}
			return '_'
		}, p)
	}
	name := strings.Join(parts, ".")
	if name == "" || !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_", rune(name[0])) {
		name = "_" + name
	}
	if len(name) > maxName {
		name = name[:maxName-9] + "-" + short(strings.Join(path, "\x00"))
	}
	return name
}

// short is a part of a name that is the same for the same text.
func short(of string) string {
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:4])
}

// names gives each thing of one list a name of its own.
type names map[string]string // name to the key of what has it

// take gives key the name that is wanted, or that with a part of its own.
func (n names) take(want, key string) string {
	if has, taken := n[want]; taken && has != key {
		if len(want) > maxName-9 {
			want = want[:maxName-9]
		}
		want += "-" + short(key)
	}
	n[want] = key
	return want
}

// cut shortens a text to so many bytes, at a letter's end.
func cut(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
