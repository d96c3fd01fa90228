package images

import (
	"fmt"
	"net/netip"
	"strings"
)

const (
	defaultDomain = "docker.io"
	oldDomain     = "index.docker.io"
	// official is the part of Docker's registry that names without a slash mean.
	official  = "library/"
	latest    = "latest"
	maxTag    = 128
	maxName   = 255
	minDigest = 32
)

// Name is an image's name, taken apart and complete.
type Name struct {
	// Repository is registry and path, such as docker.io/library/busybox.
	Repository string
	// Tag is latest where neither tag nor digest is given.
	Tag, Digest string
}

// String is the name as runtimes keep it.
func (n Name) String() string {
	s := n.Repository
	if n.Tag != "" {
		s += ":" + n.Tag
	}
	if n.Digest != "" {
		s += "@" + n.Digest
	}
	return s
}

// ParseName takes apart what a pod calls an image.
func ParseName(image string) (Name, error) {
	n, why := parseName(image)
	if why != "" {
		return Name{}, fmt.Errorf("couldn't parse image name %q: %s", image, why)
	}
	return n, nil
}

// parseName says why it is none, else.
func parseName(image string) (n Name, why string) {
	const format = "invalid reference format"
	rest, digest, digested := strings.Cut(image, "@")
	if digested && !isDigest(digest) {
		return Name{}, format
	}
	tag := ""
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, '/') {
		rest, tag = rest[:colon], rest[colon+1:]
		if !isTag(tag) {
			return Name{}, format
		}
	}
	domain, path := splitDomain(rest)
	if !isDomain(domain) || path == "" {
		return Name{}, format
	}
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case isPathPart(part):
		case isPathPart(strings.ToLower(part)):
			return Name{}, format + ": repository name (" + path + ") must be lowercase"
		default:
			return Name{}, format
		}
	}
	if len(path) > maxName {
		return Name{}, "repository name must not be more than 255 characters"
	}
	if len(image) == 64 && isHex(image) && strings.ToLower(image) == image {
		return Name{}, "invalid repository name (" + image + "), cannot specify 64-byte hexadecimal strings"
	}
	if tag == "" && digest == "" {
		tag = latest
	}
	return Name{Repository: domain + "/" + path, Tag: tag, Digest: digest}, ""
}

// WithTag adds :latest to a name that has neither tag nor digest, and leaves the
// rest as the pod has it: what registry a short name means is the runtime's say.
func WithTag(image string) (string, error) {
	n, err := ParseName(image)
	if err != nil {
		return "", err
	}
	if n.Digest == "" && !strings.HasSuffix(image, ":"+n.Tag) {
		return image + ":" + n.Tag, nil
	}
	return image, nil
}

// canonical is the complete name, or what there is of one that is none.
func canonical(image string) string {
	n, err := ParseName(image)
	if err != nil {
		return image
	}
	return n.String()
}

func splitDomain(name string) (domain, path string) {
	first, rest, found := strings.Cut(name, "/")
	switch {
	case !found:
		return defaultDomain, official + name
	case !strings.ContainsAny(first, ".:") && first != "localhost" && strings.ToLower(first) == first:
		return defaultDomain, name
	case first == oldDomain || first == defaultDomain:
		if !strings.Contains(rest, "/") {
			rest = official + rest
		}
		return defaultDomain, rest
	}
	return first, rest
}

func isDomain(s string) bool {
	host, port := s, ""
	if colon := strings.LastIndexByte(s, ':'); colon >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:colon], s[colon+1:]
		if port == "" || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && addr.Is6() && strings.HasSuffix(inner, "]")
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") || !consistsOf(label, isLetterOrDigit, "-") {
			return false
		}
	}
	return true
}

// isPathPart says whether s is of lower case letters and digits, with one dot, one
// or two underscores, or any number of dashes in between.
func isPathPart(s string) bool {
	if s == "" || !isLowerOrDigit(s[0]) || !isLowerOrDigit(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if isLowerOrDigit(s[i]) {
			i++
			continue
		}
		end := i
		for end < len(s) && !isLowerOrDigit(s[end]) {
			end++
		}
		sep := s[i:end]
		if sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
			return false
		}
		i = end
	}
	return true
}

func isTag(s string) bool {
	return s != "" && len(s) <= maxTag && s[0] != '.' && s[0] != '-' && consistsOf(s, isLetterOrDigit, "_.-")
}

func isDigest(s string) bool {
	algorithm, value, ok := strings.Cut(s, ":")
	return ok && algorithm != "" && !isDecimal(algorithm[0]) && consistsOf(algorithm, isLetterOrDigit, "-_+.") &&
		len(value) >= minDigest && isHex(value)
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

func consistsOf(s string, is func(byte) bool, also string) bool {
	for i := range len(s) {
		if !is(s[i]) && strings.IndexByte(also, s[i]) < 0 {
			return false
		}
	}
	return true
}

func isDecimal(c byte) bool       { return c >= '0' && c <= '9' }
func isLowerOrDigit(c byte) bool  { return isDecimal(c) || c >= 'a' && c <= 'z' }
func isLetterOrDigit(c byte) bool { return isLowerOrDigit(c) || c >= 'A' && c <= 'Z' }
