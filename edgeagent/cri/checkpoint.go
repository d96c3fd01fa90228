package cri

import (
	"context"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CheckpointContainer writes the state of a running container to a file. A zero
// timeout leaves it to the runtime; ErrUnsupported before containerd 2.
func (c *Client) CheckpointContainer(ctx context.Context, id, file string, timeout time.Duration) error {
	if timeout == 0 {
		timeout = shortCall
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := c.runtime.CheckpointContainer(ctx, &runtimev1.CheckpointContainerRequest{
		ContainerId: id, Location: file, Timeout: int64(timeout / time.Second),
	})
	if err != nil {
		return c.wrap("checkpoint container", err)
	}
	return nil
}
