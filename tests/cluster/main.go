// Devcluster is a Kubernetes control plane in one binary, for demos and tests
// on one machine: the real etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler and kubectl, built from their modules.
package main

import (
	"os"
	"path/filepath"
)

func main() {
	// A link called kubectl makes this binary be kubectl, as busybox does.
	if c, ok := lookup(filepath.Base(os.Args[0])); ok {
		c.main()
		return
	}
	if len(os.Args) > 1 {
		if c, ok := lookup(os.Args[1]); ok {
			os.Args = append([]string{c.name}, os.Args[2:]...)
			c.main()
			return
		}
	}
}
