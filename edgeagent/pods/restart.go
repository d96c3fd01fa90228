package pods

import (
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

const (
	// backoffFirst and backoffMax are the kubelet's, for restarts and for pulls.
	backoffFirst = 10 * time.Second
	backoffMax   = 5 * time.Minute
	// backoffForget: a container that ran this long starts afresh.
	backoffForget = 2 * backoffMax
	// startRetry is when a start that failed for another reason is tried again.
	startRetry = 10 * time.Second
	// stepRetry is the first pause after volumes or the sandbox failed; it
	// doubles up to stepRetryMax.
	stepRetry    = time.Second
	stepRetryMax = 2 * time.Minute
	// runtimeRetry is the longest pause after a failure because the runtime went away:
	// that says nothing of the pod, and nothing is tried before the runtime is back.
	runtimeRetry = 2 * time.Second
)

// noRuntime says whether something failed because no runtime was there.
func noRuntime(err error) bool {
	_, away := errors.AsType[*cri.UnavailableError](err)
	return away
}

func nextBackoff(d time.Duration) time.Duration {
	if d == 0 {
		return backoffFirst
	}
	return min(2*d, backoffMax)
}

// backoffUntil is when a container that ended at finished may start again.
func (r *startRecord) backoffUntil(finished time.Time) time.Time {
	if r == nil || r.backoff == 0 || finished.Sub(r.bumped) > backoffForget {
		return finished
	}
	return finished.Add(r.backoff)
}

// shouldRestart says whether a container in this state is to be started
// (again), by the restart rules and policies of container and pod. Nil means
// that it was never created.
func shouldRestart(pod *corev1.Pod, c *corev1.Container, have *container) bool {
	switch {
	case have == nil:
		return true
	case have.state == cri.StateRunning:
		return false
	case have.state == cri.StateCreated || have.state == cri.StateUnknown:
		return true
	default:
		return restartAfter(pod, c, have.exitCode)
	}
}

// shouldRestart is that, and true for an instance that was ended to be replaced.
func (m *memory) shouldRestart(pod *corev1.Pod, c *corev1.Container, have *container) bool {
	return have != nil && have.state == cri.StateExited && m.replaced[have.id] || shouldRestart(pod, c, have)
}

// restartAfter says whether the container restarts after it ended with a code.
func restartAfter(pod *corev1.Pod, c *corev1.Container, code int32) bool {
	if c.RestartPolicy != nil {
		if ruleMatches(c, code) {
			return true
		}
		switch *c.RestartPolicy {
		case corev1.ContainerRestartPolicyAlways:
			return true
		case corev1.ContainerRestartPolicyOnFailure:
			return code != 0
		case corev1.ContainerRestartPolicyNever:
			return false
		}
	}
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	default:
		return true
	}
}

// mayRestart says whether there is an exit code after which the container restarts.
func mayRestart(pod *corev1.Pod, c *corev1.Container) bool {
	if c.RestartPolicy == nil {
		return pod.Spec.RestartPolicy != corev1.RestartPolicyNever
	}
	return *c.RestartPolicy != corev1.ContainerRestartPolicyNever ||
		slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool { return r.Action == corev1.ContainerRestartRuleActionRestart })
}

func ruleMatches(c *corev1.Container, code int32) bool {
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil || rule.Action != corev1.ContainerRestartRuleActionRestart {
			continue
		}
		in := slices.Contains(rule.ExitCodes.Values, code)
		switch rule.ExitCodes.Operator {
		case corev1.ContainerRestartRuleOnExitCodesOpIn:
			if in {
				return true
			}
		case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
			if !in {
				return true
			}
		}
	}
	return false
}

// sidecar says whether this is a restartable init container.
func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
