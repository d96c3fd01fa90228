// Package install holds the end-to-end tests of the installation: `skerry init` into a
// cluster that has nothing, the proxy run by the real kubelet just as its Deployment
// says, and `skerry uninstall`. They need root and run with SKERRY_E2E in the
// environment, else they are skipped.
package install
