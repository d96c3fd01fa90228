package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// askRuntime tells one that is not installed or not running from one that has no CRI.
func askRuntime(ctx context.Context, socket string) (string, runtimeState, error) {
	const timeout = 10 * time.Second
	const advice = "; is containerd or CRI-O installed and running? (--cri-socket names another socket)"
	var s runtimeState
	path, ok := strings.CutPrefix(socket, "unix://")
	if !ok {
		return "", s, errors.New("the address must start with unix://")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return "", s, fmt.Errorf("%w%s", err, advice)
	}
	_ = conn.Close()
	client, err := cri.New(cri.Config{Endpoint: socket})
	if err != nil {
		return "", s, err
	}
	defer client.Close() //nolint:errcheck // its calls have ended
	v, err := client.Version(ctx)
	if err != nil {
		return "", s, fmt.Errorf("it does not speak CRI v1 (%w); containerd needs 1.6 or later, and 'cri' not among disabled_plugins in /etc/containerd/config.toml", err)
	}
	health, err := client.Health(ctx)
	if err != nil {
		return "", s, err
	}
	if !health.RuntimeReady {
		return "", s, fmt.Errorf("it is not ready: %s", health.Reason)
	}
	setup, err := client.Setup(ctx)
	return v.Name + " " + v.Version, runtimeState{
		networkReady: health.NetworkReady, reason: health.Reason, cniConf: setup.CNIConf, cniBin: setup.CNIBin, cgroupDriver: setup.CgroupDriver,
	}, err
}

// runtimePods lists the pods that the runtime has.
func runtimePods(ctx context.Context, socket string) ([]runtimePod, error) {
	client, err := cri.New(cri.Config{Endpoint: socket})
	if err != nil {
		return nil, err
	}
	sandboxes, err := client.ListSandboxes(ctx, nil)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	var pods []runtimePod
	for i := range sandboxes {
		s := &sandboxes[i]
		pods = append(pods, runtimePod{uid: s.UID, name: s.Namespace + "/" + s.Name, remove: func(ctx context.Context) error {
			if err := client.StopSandbox(ctx, s.ID); err != nil {
				return err
			}
			return client.RemoveSandbox(ctx, s.ID)
		}})
	}
	return pods, nil
}
