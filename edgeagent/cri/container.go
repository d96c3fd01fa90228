package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CreateContainer creates a container in a sandbox and returns its id. The
// runtime wants the sandbox's configuration again.
func (c *Client) CreateContainer(ctx context.Context, sandboxID string, cfg *ContainerConfig, sandbox *SandboxConfig) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.CreateContainer(ctx, &runtimev1.CreateContainerRequest{
		PodSandboxId:  sandboxID,
		Config:        containerConfig(cfg),
		SandboxConfig: sandboxConfig(sandbox),
	})
	if err != nil {
		return "", c.wrap("create container", err)
	}
	return r.GetContainerId(), nil
}

// StartContainer starts a created container.
func (c *Client) StartContainer(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	_, err := c.runtime.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: id})
	if err != nil {
		return c.wrap("start container", err)
	}
	return nil
}

// StopContainer sends the stop signal, waits up to grace, then kills. It
// returns when the container has ended. Stopping one that is gone succeeds.
func (c *Client) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall+grace)
	defer cancel()
	_, err := c.runtime.StopContainer(ctx, &runtimev1.StopContainerRequest{
		ContainerId: id, Timeout: int64(grace / time.Second),
	})
	return c.gone("stop container", err)
}

// RemoveContainer removes a container, killing it if it runs. Removing one that
// is gone succeeds.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r := &runtimev1.RemoveContainerRequest{ContainerId: id}
	_, err := c.runtime.RemoveContainer(ctx, r)
	if status.Code(err) == codes.FailedPrecondition {
		if taskErr := c.deleteTask(ctx, id); taskErr != nil {
			return errors.Join(c.wrap("remove container", err), taskErr)
		}
		_, err = c.runtime.RemoveContainer(ctx, r)
	}
	return c.gone("remove container", err)
}

// ListContainers lists the containers, in any state, that carry all the given
// labels; nil lists all.
func (c *Client) ListContainers(ctx context.Context, labels map[string]string) ([]Container, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.ListContainers(ctx, &runtimev1.ListContainersRequest{
		Filter: &runtimev1.ContainerFilter{LabelSelector: labels},
	})
	if err != nil {
		return nil, c.wrap("list containers", err)
	}
	out := make([]Container, 0, len(r.GetContainers()))
	for _, p := range r.GetContainers() {
		out = append(out, Container{
			ID: p.GetId(), SandboxID: p.GetPodSandboxId(),
			Name: p.GetMetadata().GetName(), Attempt: p.GetMetadata().GetAttempt(),
			State: containerState(p.GetState()),
			Image: p.GetImage().GetImage(), ImageRef: p.GetImageRef(), ImageID: p.GetImageId(),
			CreatedAt: time.Unix(0, p.GetCreatedAt()),
			Labels:    p.GetLabels(), Annotations: p.GetAnnotations(),
		})
	}
	return out, nil
}

// ContainerStatus asks for one container.
func (c *Client) ContainerStatus(ctx context.Context, id string) (ContainerStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.ContainerStatus(ctx, &runtimev1.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return ContainerStatus{}, c.wrap("get container status", err)
	}
	s := r.GetStatus()
	out := ContainerStatus{
		ID: s.GetId(), Name: s.GetMetadata().GetName(), Attempt: s.GetMetadata().GetAttempt(),
		State:     containerState(s.GetState()),
		CreatedAt: unixNano(s.GetCreatedAt()), StartedAt: unixNano(s.GetStartedAt()), FinishedAt: unixNano(s.GetFinishedAt()),
		ExitCode: s.GetExitCode(), Reason: s.GetReason(), Message: s.GetMessage(),
		Image: s.GetImage().GetImage(), ImageRef: s.GetImageRef(), LogPath: s.GetLogPath(),
		Labels: s.GetLabels(), Annotations: s.GetAnnotations(),
		StopSignal: signalName(s.GetStopSignal()),
	}
	if u := s.GetUser().GetLinux(); u != nil {
		out.User = &User{UID: u.GetUid(), GID: u.GetGid(), SupplementalGroups: u.GetSupplementalGroups()}
	}
	for _, m := range s.GetMounts() {
		out.Mounts = append(out.Mounts, Mount{ContainerPath: m.GetContainerPath(), HostPath: m.GetHostPath(), ReadOnly: m.GetReadonly()})
	}
	return out, nil
}

// MainPID is a container's first process as the machine numbers it.
func (c *Client) MainPID(ctx context.Context, id string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.ContainerStatus(ctx, &runtimev1.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		return 0, c.wrap("get container status", err)
	}
	var info struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(r.GetInfo()["info"]), &info); err != nil || info.PID <= 0 {
		return 0, fmt.Errorf("process of container %s: %w", id, ErrUnsupported)
	}
	return info.PID, nil
}

// UpdateResources changes the cgroup settings of a running container.
func (c *Client) UpdateResources(ctx context.Context, id string, r Resources) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	_, err := c.runtime.UpdateContainerResources(ctx, &runtimev1.UpdateContainerResourcesRequest{
		ContainerId: id, Linux: linuxResources(&r),
	})
	if err != nil {
		return c.wrap("update container resources", err)
	}
	return nil
}

// ReopenLog makes the runtime reopen the log file of a running container, after
// somebody has moved it away.
func (c *Client) ReopenLog(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	if _, err := c.runtime.ReopenContainerLog(ctx, &runtimev1.ReopenContainerLogRequest{ContainerId: id}); err != nil {
		return c.wrap("reopen container log", err)
	}
	return nil
}

// gone treats "not found" as success: the caller wanted it gone.
func (c *Client) gone(what string, err error) error {
	if err == nil {
		return nil
	}
	if err = c.wrap(what, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// unixNano keeps the zero time for a timestamp that was never set.
func unixNano(ns int64) time.Time {
	if ns <= 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func containerConfig(cfg *ContainerConfig) *runtimev1.ContainerConfig {
	out := &runtimev1.ContainerConfig{
		Metadata:    &runtimev1.ContainerMetadata{Name: cfg.Name, Attempt: cfg.Attempt},
		Image:       &runtimev1.ImageSpec{Image: cfg.Image, UserSpecifiedImage: cfg.UserImage},
		Command:     cfg.Command,
		Args:        cfg.Args,
		WorkingDir:  cfg.WorkingDir,
		Mounts:      mounts(cfg.Mounts, cfg.Security.Namespaces.Users),
		Labels:      cfg.Labels,
		Annotations: cfg.Annotations,
		LogPath:     cfg.LogPath,
		Stdin:       cfg.Stdin,
		StdinOnce:   cfg.StdinOnce,
		Tty:         cfg.TTY,
		StopSignal:  signal(cfg.StopSignal),
		Linux: &runtimev1.LinuxContainerConfig{
			Resources:       linuxResources(&cfg.Resources),
			SecurityContext: securityContext(&cfg.Security),
		},
	}
	for _, e := range cfg.Env {
		out.Envs = append(out.Envs, &runtimev1.KeyValue{Key: e.Name, Value: []byte(e.Value)})
	}
	for _, d := range cfg.Devices {
		out.Devices = append(out.Devices, &runtimev1.Device{ContainerPath: d.ContainerPath, HostPath: d.HostPath, Permissions: d.Permissions})
	}
	return out
}
