package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
		started, err := e.removeUnstarted(ctx, a.id)
		if err != nil {
			return fail(reasonCreateError, "Failed", err)
		}
		if started {
			return nil
		}
	}
	sandboxCfg, err := e.sandboxConfig(ctx, s.pod, sandbox.Attempt)
	if err != nil {
		return fail(reasonConfigError, "Failed", err)
	}
	mounted, failed := e.ensureMountedImages(ctx, s, c, sandboxCfg)
	if failed != nil {
		return failed
	}
	image, ref, failed := e.ensureImage(ctx, s, imageWanted{container: c.Name, image: c.Image, policy: c.ImagePullPolicy}, sandboxCfg)
	if failed != nil {
		return failed
	}
	cfg, err := e.containerConfig(ctx, s, c, &image, ref, a.restarts)
	if err != nil {
		return fail(reasonConfigError, "Failed", err)
	}
	cfg.Security.Namespaces.Users = sandboxCfg.Namespaces.Users
	for i := range cfg.Mounts {
		cfg.Mounts[i].Image = mounted[cfg.Mounts[i].UserImage]
	}
	if err := os.MkdirAll(filepath.Join(sandboxCfg.LogDirectory, c.Name), 0o755); err != nil {
		return fail(reasonCreateError, "Failed", err)
	}
	if err := e.regroup(s.pod); err != nil {
		return fail(reasonCreateError, "Failed", err)
	}
	done, err := e.starts.take(ctx, priority(s.pod))
	if err != nil {
		return fail(reasonCreateError, "Failed", err)
	}
	defer done()
	id, err := e.cri.CreateContainer(ctx, sandbox.ID, cfg, sandboxCfg)
	if err != nil {
		failed := fail(reasonCreateError, "Failed", err)
		failed.sandbox = sandbox.ID
		return failed
	}
	e.event(s.pod, c.Name, corev1.EventTypeNormal, "Created", "Container created")
	if err := e.cri.StartContainer(ctx, id); err != nil {
		failed := fail(reasonRunError, "Failed", err)
		failed.sandbox = sandbox.ID
		if !noRuntime(err) && ctx.Err() == nil {
			failed.id = id
		}
		return failed
	}
	done()
	e.event(s.pod, c.Name, corev1.EventTypeNormal, "Started", "Container started")
	return e.postStart(ctx, s, c, id)
}

const (
	// startPatience is what the runtime gets to end a start that a former agent asked
	// for; startLook is the pause between two looks.
	startPatience = 10 * time.Second
	startLook     = 200 * time.Millisecond
)

// removeUnstarted removes a container that a former agent has made, unless it turns
// out to have been started: the runtime may be at it still, and lets nobody remove
// the container meanwhile.
func (e *env) removeUnstarted(ctx context.Context, id string) (started bool, err error) {
	for end := time.Now().Add(startPatience); ; {
		st, statusErr := e.cri.ContainerStatus(ctx, id)
		if statusErr == nil && st.State != cri.StateCreated && !neverRan(st.State, st.StartedAt) {
			return true, nil
		}
		if err = e.cri.RemoveContainer(ctx, id); err == nil || !time.Now().Before(end) {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(startLook):
		}
	}
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
	return runtimeText(f.err)
}
