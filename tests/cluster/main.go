// Devcluster is a Kubernetes control plane in one binary, for demos and tests
// on one machine: the real etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler and kubectl, built from their modules.
//
//	devcluster up --dir DIR       start it in the background, wait until it serves
//	devcluster status --dir DIR
//	devcluster down --dir DIR     stop it; with --purge remove its data too
//	devcluster kubectl ...        be one of the five programs
//
// A link named kubectl to the binary is kubectl.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	// The name comes first: a link called kubectl is kubectl, as with busybox,
	// and up starts the components under their own names.
	if program, ok := lookup(filepath.Base(os.Args[0])); ok {
		program.main()
		return
	}
	if len(os.Args) > 1 {
		if program, ok := lookup(os.Args[1]); ok {
			os.Args = append([]string{program.name}, os.Args[2:]...)
			program.main()
			return
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "devcluster: %v\n", err)
		os.Exit(1)
	}
}
