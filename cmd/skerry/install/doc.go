// Package install puts the cloud proxy into a cluster and takes it out again: what
// `skerry init` and `skerry uninstall` do once they know what they are to do. It
// applies by server-side apply, so that a second run changes what differs and nothing
// else, and labels what it makes, so that it removes nothing else.
package install
