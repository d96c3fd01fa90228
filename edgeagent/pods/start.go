package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// start takes a container from its image to running, postStart hook included.
func (e *env) start(ctx context.Context, s *snapshot, a action) *startError {
	c := findContainer(s.pod, a.container)
	sandbox := s.obs.sandbox()
	if c == nil || sandbox == nil {
		return fail(reasonCreateError, "Failed", errors.New("the pod has changed"))
	}
	if a.id != "" {
		st, err := e.cri.ContainerStatus(ctx, a.id)
		if err == nil && st.State != cri.StateCreated {
			return nil // the runtime was still starting it, for the agent before us
		}
		if err := e.cri.RemoveContainer(ctx, a.id); err != nil {
			return fail(reasonCreateError, "Failed", err)
		}
	}
	sandboxCfg, err := e.sandboxConfig(s.pod, sandbox.Attempt)
	if err != nil {
		return fail(reasonConfigError, "Failed", err)
	}
	image, ref, failed := e.ensureImage(ctx, s, c, sandboxCfg)
	if failed != nil {
		return failed
	}
	cfg, err := e.containerConfig(s, c, &image, ref, a.restarts)
	if err != nil {
		return fail(reasonConfigError, "Failed", err)
	}
	if err := os.MkdirAll(filepath.Join(sandboxCfg.LogDirectory, c.Name), 0o755); err != nil {
		return fail(reasonCreateError, "Failed", err)
	}
	id, err := e.cri.CreateContainer(ctx, sandbox.ID, cfg, sandboxCfg)
	if err != nil {
		return fail(reasonCreateError, "Failed", err)
	}
	e.event(s.pod, c.Name, corev1.EventTypeNormal, "Created", "Container created")
	if err := e.cri.StartContainer(ctx, id); err != nil {
		return fail(reasonRunError, "Failed", err)
	}
	e.event(s.pod, c.Name, corev1.EventTypeNormal, "Started", "Container started")
	return e.postStart(ctx, s, c, id)
}

func (e *env) postStart(ctx context.Context, s *snapshot, c *corev1.Container, id string) *startError {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	err := e.prober.Hook(ctx, c.Lifecycle.PostStart, e.target(s, id, c))
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fail(reasonPostStart, "FailedPostStartHook", ctx.Err()) // the pod is ending: others stop the container
	}
	grace := defaultGrace
	if g := s.pod.Spec.TerminationGracePeriodSeconds; g != nil {
		grace = seconds(*g)
	}
	kill := action{kind: actKill, container: c.Name, id: id, grace: grace, message: "FailedPostStartHook"}
	if killErr := e.kill(ctx, s, kill); killErr != nil {
		err = errors.Join(err, killErr)
	}
	return fail(reasonPostStart, "FailedPostStartHook", fmt.Errorf("PostStartHook failed: %w", err))
}

// startMessage is the text of a failed start as users see it: the runtime's own
// words where it is the runtime's failure.
func startMessage(f *startError) string {
	var rt *cri.RuntimeError
	if f.reason != reasonErrImagePull && errors.As(f.err, &rt) {
		return rt.Text
	}
	return f.Error()
}
