package cri

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RemoveContainer refuses, as containerd does, while a container has a task.
func (s *server) RemoveContainer(_ context.Context, r *runtimev1.RemoveContainerRequest) (*runtimev1.RemoveContainerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.GetContainerId() == "interrupted" && s.deleted != "interrupted" || r.GetContainerId() == "foreign" {
		return nil, status.Error(codes.FailedPrecondition, "cannot delete running task")
	}
	return &runtimev1.RemoveContainerResponse{}, nil
}

// tasks is containerd's own API as far as it is used.
func (s *server) tasks(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	id := &wrapperspb.StringValue{}
	if err := stream.RecvMsg(id); err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(stream.Context())
	if method != "/containerd.services.tasks.v1.Tasks/Delete" || id.GetValue() == "foreign" || len(md["containerd-namespace"]) != 1 || md["containerd-namespace"][0] != "k8s.io" {
		return status.Error(codes.Unimplemented, "unknown service")
	}
	s.mu.Lock()
	s.deleted = id.GetValue()
	s.mu.Unlock()
	return stream.SendMsg(&emptypb.Empty{})
}

// TestRemoveInterrupted removes a container of which a start that was called off has left
// processes, from a runtime that can be told to end them and from one that can't.
func TestRemoveInterrupted(t *testing.T) {
	c, s := start(t)
	for _, id := range []string{"ended", "interrupted"} {
		if err := c.RemoveContainer(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if s.deleted != "interrupted" {
		t.Errorf("deleted the task of %q", s.deleted)
	}
	if err := c.RemoveContainer(t.Context(), "foreign"); err == nil || !strings.Contains(err.Error(), "cannot delete running task") || !strings.Contains(err.Error(), "unknown service") {
		t.Errorf("error %v", err)
	}
}
