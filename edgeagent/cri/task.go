package cri

import (
	"context"
	"fmt"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// deleteTaskMethod is of containerd's own API, which it serves beside CRI. Its
	// request begins as a StringValue does: with the container's id in field 1.
	deleteTaskMethod = "/containerd.services.tasks.v1.Tasks/Delete"
	// criNamespace is where containerd keeps what is made by CRI.
	criNamespace = "k8s.io"
)

// deleteTask ends what a call of StartContainer has left that was called off, as when the
// agent that asked for it was killed: processes that wait to be started. The container has
// ended for CRI then, which knows no way to be rid of them, and containerd removes no
// container that has some.
func (c *Client) deleteTask(ctx context.Context, id string) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", criNamespace)
	if err := c.conn.Invoke(ctx, deleteTaskMethod, wrapperspb.String(id), &emptypb.Empty{}); err != nil {
		return fmt.Errorf("delete the task that an interrupted start has left: %w", err)
	}
	c.log.Info("what an interrupted start has left is deleted", "container", id)
	return nil
}
