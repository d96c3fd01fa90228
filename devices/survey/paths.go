package survey

import "strings"

// Paths of the kubelet API.
const (
	Prefix       = "/devices/"
	PathDiscover = Prefix + "discover"
	PathBrowse   = Prefix + "browse"
	PathIdentify = Prefix + "identify"
	PrefixLive   = Prefix + "live/"
)

// Operations on a Device, the last part of a path below PrefixLive.
const (
	Read  = "read"
	Write = "write"
	Call  = "call"
)

const (
	// MaxBody bounds the body of a request, in bytes.
	MaxBody = 256 << 10
	// MaxLine bounds a line of a browse's answer, in bytes.
	MaxLine = 1 << 20
	// DefaultNodes is how many nodes a browse finds at most unless told otherwise.
	DefaultNodes = 20_000
	// MaxNodes is how many it may be told.
	MaxNodes = 100_000
	// MaxProperties bounds the properties of one read or write.
	MaxProperties = 1000
)

// LivePath is that of an operation on a Device.
func LivePath(namespace, name, operation string) string {
	return PrefixLive + namespace + "/" + name + "/" + operation
}

// Tellable reports whether what a request to path carries may stand in a log: the
// body of a browse has what proves who the user is.
func Tellable(path string) bool { return strings.HasPrefix(path, PrefixLive) || path == PathIdentify }
