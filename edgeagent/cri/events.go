package cri

import (
	"context"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Events calls notify with the UID of a pod each time the runtime created,
// started, stopped or removed one of its containers. It returns when ctx ends or
// the stream breaks; with ErrUnsupported where the runtime has no event stream
// (containerd before 1.7).
func (c *Client) Events(ctx context.Context, notify func(podUID string)) error {
	stream, err := c.runtime.GetContainerEvents(ctx, &runtimev1.GetEventsRequest{})
	if err != nil {
		return c.wrap("watch container events", err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return c.wrap("watch container events", err)
		}
		notify(e.GetPodSandboxStatus().GetMetadata().GetUid())
	}
}
