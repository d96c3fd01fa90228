// Package bootstrap turns a join token into an edge's files: it asks the cloud
// proxy for a certificate over HTTPS pinned by the CA's hash, checks everything
// that comes back, and writes all files or none. `skerry join` uses it.
package bootstrap
