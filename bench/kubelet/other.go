package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/skerry-io/skerry/bench/kubelet/passthrough"
	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/tests/lab"
)

// passThrough makes the other way: a node of the API whose kubelet is at the far end
// of a tunnel of bytes, over the same link.
func (b *bed) passThrough(ctx context.Context) error {
	authority, err := system.NewAuthority()
	if err != nil {
		return err
	}
	address := func(port int) string { return netip.AddrPortFrom(b.lab.CloudAddr(), uint16(port)).String() } //nolint:gosec // constants
	b.cloud, err = passthrough.Listen(ctx, passthrough.CloudConfig{
		Kubelet: address(passthroughPort), Tunnel: address(passthroughPort + 1), Authority: authority,
	})
	if err != nil {
		return err
	}
	config, err := json.Marshal(passthrough.EdgeConfig{Tunnel: address(passthroughPort + 1), Runtime: b.edge.CRISocket(), Authority: authority})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.far = exec.CommandContext(context.WithoutCancel(ctx), "ip", "netns", "exec", filepath.Base(b.edge.Netns()), self, passthrough.Argument)
	b.far.Stderr = os.Stderr
	in, err := b.far.StdinPipe()
	if err != nil {
		return err
	}
	if err := b.far.Start(); err != nil {
		return err
	}
	b.farEnd = in
	if _, err := in.Write(config); err != nil {
		return err
	}
	if err := b.lab.Apply(ctx, []byte(strings.ReplaceAll(passthroughYAML, "BUSYBOX_IMAGE", lab.BusyboxImage))); err != nil {
		return err
	}
	status := fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":%q}],"daemonEndpoints":{"kubeletEndpoint":{"Port":%d}}}}`,
		b.lab.CloudAddr(), passthroughPort)
	if _, err := b.lab.Kubectl(ctx, "patch", "node", "passthrough", "--subresource=status", "-p", status); err != nil {
		return err
	}
	// kubectl forwards no ports of a pod that doesn't say that it runs.
	if _, err := b.lab.Kubectl(ctx, "patch", "pod", "spdy-web", "--subresource=status", "-p", `{"status":{"phase":"Running"}}`); err != nil {
		return err
	}
	return lab.Until(ctx, patience, "a command by the other way", func() error {
		_, err := b.lab.Kubectl(ctx, "exec", "spdy-bench", "--", "true")
		return err
	})
}

// down takes everything down.
func (b *bed) down(ctx context.Context) error {
	var errs []error
	if b.farEnd != nil {
		errs = append(errs, b.farEnd.Close(), b.far.Wait())
	}
	if b.cloud != nil {
		errs = append(errs, b.cloud.Close())
	}
	return errors.Join(append(errs, b.lab.Down(ctx))...)
}
