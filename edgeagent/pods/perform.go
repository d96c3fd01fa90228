package pods

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/logrotate"
	"github.com/skerry-io/skerry/edgeagent/pods/probe"
	"github.com/skerry-io/skerry/edgeagent/pods/userns"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// ownershipPatience is how long fsGroup may take without a word, the kubelet's.
const ownershipPatience = 30 * time.Second

// env is what all workers share.
type env struct {
	Config
	cri         Runtime
	volumes     *volumes.Manager
	ranges      *userns.Ranges
	prober      *probe.Prober
	probes      probeTotals
	starts      *turns // of sandboxes and containers
	pulls       *turns // of images
	runtimeName string // set before the first worker
	ledger      *ledger
	end         func(types.UID, End) bool
	signal      func(pid int, sig syscall.Signal) error
	kernel      string // its version
	appArmor    bool
	noImages    string // why the runtime can't mount images; empty if it can
}

// snapshot is what an action sees. Nobody changes it.
type snapshot struct {
	ref PodRef
	pod *corev1.Pod // nil for a pod that is only in the runtime
	obs *observed
}

// result is what became of an action.
type result struct {
	action action
	err    error
	probe  probe.Result
	text   string // of a failed probe
}

// startError is a start that failed, with the reason to show.
type startError struct {
	reason string // of the waiting state
	event  string // reason of the event
	told   string // message of the event; empty takes err's
	err    error
	id     string // of the container that the runtime can't start
	// sandbox is the id of the one in which the runtime could not make or start the
	// container; empty where the sandbox has no part in the failure.
	sandbox string
}

// Error is the cause only: the reason is shown beside it.
func (e *startError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *startError) Unwrap() error { return e.err }

// orphaned reports that the container's sandbox was gone.
func (e *startError) orphaned() bool {
	return e.reason == reasonCreateError && errors.Is(e.err, cri.ErrNotFound)
}

func fail(reason, event string, err error) *startError {
	return &startError{reason: reason, event: event, err: err}
}

// event records an event about a pod or, with a name, about its container.
func (e *env) event(pod *corev1.Pod, container, kind, reason, message string) {
	if pod == nil || static(pod) {
		return // the API has nothing that the event would be about
	}
	ref := PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
	if container != "" {
		ref.FieldPath = fieldPath(pod, container)
	}
	e.Events.Event(ref, kind, reason, message)
}

func fieldPath(pod *corev1.Pod, name string) string {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return "spec.initContainers{" + name + "}"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return "spec.ephemeralContainers{" + name + "}"
		}
	}
	return "spec.containers{" + name + "}"
}

// perform does one action. It has no say in what happens next.
func (e *env) perform(ctx context.Context, s *snapshot, a action) result {
	r := result{action: a}
	var locals []volumes.Local
	switch a.kind {
	case actSetUpVolumes, actStart:
		resolved, l, err := volumes.Resolve(s.pod, e.Claims)
		if err != nil {
			r.err = err
			return r
		}
		s, locals = &snapshot{ref: s.ref, pod: resolved, obs: s.obs}, l
	default:
	}
	switch a.kind {
	case actSetUpVolumes:
		r.err = e.setUpVolumes(ctx, s, locals)
	case actRefreshVolumes:
		r.err = e.volumes.Refresh(s.pod, e.facts(s))
	case actRunSandbox:
		r.err = e.runSandbox(ctx, s, a)
	case actStart:
		if err := e.start(ctx, s, a); err != nil {
			r.err = err
		}
	case actKill:
		r.err = e.kill(ctx, s, a)
	case actCollect:
		r.err = e.collect(ctx, s, a)
	case actProbe:
		r.probe, r.text = e.probe(ctx, s, a)
	case actResize:
		r.err = e.doResize(ctx, s)
	case actRelease:
		r.err = e.release(ctx, s)
	case actCleanUp:
		r.err = e.cleanUp(ctx, s)
	}
	return r
}

// setUpVolumes gives the pod its volumes. To change the owner of many files may take
// long, and a person should know why the pod does not start.
func (e *env) setUpVolumes(ctx context.Context, s *snapshot, locals []volumes.Local) error {
	if err := e.checkImageVolumes(s.pod); err != nil {
		return err
	}
	if err := e.volumes.SetUp(s.pod, e.facts(s)); err != nil {
		return err
	}
	for _, local := range locals {
		slow := time.AfterFunc(ownershipPatience, func() {
			e.event(s.pod, "", corev1.EventTypeWarning, "VolumePermissionChangeInProgress",
				"Setting volume ownership for "+local.Name+" is taking longer than expected, consider using OnRootMismatch")
		})
		warning, err := e.volumes.SetUpLocal(ctx, s.pod, local)
		slow.Stop()
		if warning != "" {
			e.event(s.pod, "", corev1.EventTypeWarning, "AlreadyMountedVolume", warning)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// runSandbox replaces whatever sandboxes the pod has by a new one.
func (e *env) runSandbox(ctx context.Context, s *snapshot, a action) error {
	if err := e.stopAll(ctx, s, a.grace); err != nil {
		return err
	}
	cfg, err := e.sandboxConfig(ctx, s.pod, a.attempt)
	if err != nil {
		return err
	}
	if err := e.group(s.pod); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.LogDirectory, 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	done, err := e.starts.take(ctx, priority(s.pod))
	if err != nil {
		return err
	}
	id, err := e.cri.RunSandbox(ctx, cfg)
	done()
	if err != nil {
		return err
	}
	e.warnDNS(s.pod)
	e.Log.Debug("sandbox runs", "pod", s.ref.Name, "namespace", s.ref.Namespace, "sandbox", id, "attempt", a.attempt)
	return nil
}

// stopAll stops all containers, each with its grace, and all sandboxes.
func (e *env) stopAll(ctx context.Context, s *snapshot, grace time.Duration) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.obs.containers))
	for i := range s.obs.containers {
		if c := &s.obs.containers[i]; c.alive() {
			wg.Go(func() { errs[i] = e.cri.StopContainer(ctx, c.id, grace) })
		}
	}
	wg.Wait()
	for i := range s.obs.sandboxes {
		errs = append(errs, e.cri.StopSandbox(ctx, s.obs.sandboxes[i].ID))
	}
	return errors.Join(errs...)
}

// kill ends a container: its preStop hook, then the stop signal, then force,
// all within the grace period.
func (e *env) kill(ctx context.Context, s *snapshot, a action) error {
	e.event(s.pod, a.container, corev1.EventTypeNormal, "Killing", a.message)
	began := time.Now()
	grace := a.grace
	if hook, target := e.preStop(s, a); hook != nil && grace > 0 {
		hookCtx, cancel := context.WithTimeout(ctx, grace)
		err := e.prober.Hook(hookCtx, hook, target)
		cancel()
		if err != nil && ctx.Err() == nil {
			e.event(s.pod, a.container, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
			e.Log.Warn("pre-stop hook failed", "pod", s.ref.Name, "namespace", s.ref.Namespace, "container", a.container, "error", err)
		}
		grace -= time.Since(began) // the hook's time is part of it
	}
	return e.stop(ctx, s, a, max(grace, minGrace))
}

// collect removes a dead container with its log, or a dead sandbox.
func (e *env) collect(ctx context.Context, s *snapshot, a action) error {
	if a.sandbox {
		return errors.Join(e.cri.StopSandbox(ctx, a.id), e.cri.RemoveSandbox(ctx, a.id))
	}
	if err := e.cri.RemoveContainer(ctx, a.id); err != nil {
		return err
	}
	c := s.obs.find(a.id)
	if c == nil {
		return nil
	}
	err := os.Remove(e.terminationPath(s.ref.UID, c.name, c.restarts))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if strings.HasPrefix(c.logPath, e.LogsDir+"/") {
		err = errors.Join(err, logrotate.Remove(c.logPath))
	}
	return err
}

func (e *env) probe(ctx context.Context, s *snapshot, a action) (probe.Result, string) {
	c := findContainer(s.pod, a.container)
	if c == nil {
		return probe.Unknown, ""
	}
	spec := probeOf(c, a.probe)
	if spec == nil {
		return probe.Unknown, ""
	}
	return e.prober.Run(ctx, spec, e.target(s, a.id, c))
}

func (e *env) target(s *snapshot, id string, c *corev1.Container) probe.Target {
	t := probe.Target{ContainerID: id, Container: c}
	ips := s.obs.ips
	if s.pod.Spec.HostNetwork {
		ips = e.HostIP()
	}
	if len(ips) > 0 {
		t.PodIP = ips[0]
	}
	return t
}

// release gives back what a finished pod does not need; its containers and
// logs stay.
func (e *env) release(ctx context.Context, s *snapshot) error {
	if err := e.stopAll(ctx, s, 0); err != nil {
		return err
	}
	if err := e.volumes.Release(s.ref.UID); err != nil {
		return err
	}
	if err := e.ranges.Release(s.ref.UID); err != nil {
		return err
	}
	return e.removeCgroups(string(s.ref.UID))
}

// cleanUp removes everything of a pod from the node, logs last.
func (e *env) cleanUp(ctx context.Context, s *snapshot) error {
	for i := range s.obs.sandboxes {
		if err := e.cri.StopSandbox(ctx, s.obs.sandboxes[i].ID); err != nil {
			return err
		}
	}
	for i := range s.obs.containers {
		if err := e.cri.RemoveContainer(ctx, s.obs.containers[i].id); err != nil {
			return err
		}
	}
	for i := range s.obs.sandboxes {
		if err := e.cri.RemoveSandbox(ctx, s.obs.sandboxes[i].ID); err != nil {
			return err
		}
	}
	if err := e.cleanHost(s.ref.UID); err != nil {
		return err
	}
	if s.ref.Name == "" {
		return nil
	}
	if err := os.RemoveAll(logDirectory(e.LogsDir, s.ref.Namespace, s.ref.Name, s.ref.UID)); err != nil {
		return fmt.Errorf("remove pod logs: %w", err)
	}
	return nil
}

// cleanHost removes a pod's files, mounts and control groups.
func (e *env) cleanHost(uid types.UID) error {
	if uid == "" || filepath.Base(string(uid)) != string(uid) {
		return fmt.Errorf("invalid pod uid %q", uid)
	}
	if err := e.volumes.TearDown(uid); err != nil {
		return err
	}
	return e.removeCgroups(string(uid))
}

func (e *env) preStop(s *snapshot, a action) (*corev1.LifecycleHandler, probe.Target) {
	c := findContainer(s.pod, a.container)
	if c == nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		return nil, probe.Target{}
	}
	return c.Lifecycle.PreStop, e.target(s, a.id, c)
}

// ephemeralTarget is the container whose processes an ephemeral container sees.
func (s *snapshot) ephemeralTarget(name string) string {
	for i := range s.pod.Spec.EphemeralContainers {
		if ec := &s.pod.Spec.EphemeralContainers[i]; ec.Name == name {
			return ec.TargetContainerName
		}
	}
	return ""
}

// findContainer finds a container of any kind by name.
func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	if pod == nil {
		return nil
	}
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i]
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return &pod.Spec.InitContainers[i]
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if ec := &pod.Spec.EphemeralContainers[i]; ec.Name == name {
			c := corev1.Container(ec.EphemeralContainerCommon)
			return &c
		}
	}
	return nil
}

var _ Runtime = (*cri.Client)(nil)
