package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// sourceAnnotation says where a pod comes from: "file" is a static pod.
const sourceAnnotation = "kubernetes.io/config.source"

func podTable(w io.Writer, pods []corev1.Pod, wide bool, now time.Time) error {
	head := []string{"NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"}
	if wide {
		head = append(head, "IP", "PRIORITY", "SOURCE")
	}
	rows := [][]string{head}
	for i := range pods {
		p := &pods[i]
		s := summarize(p)
		restarts := strconv.Itoa(int(s.restarts))
		if s.restarts > 0 && !s.lastRestart.IsZero() {
			restarts += " (" + age(s.lastRestart, now) + " ago)"
		}
		row := []string{
			p.Namespace, p.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.status, restarts, since(p.CreationTimestamp.Time, now),
		}
		if wide {
			priority, source := "0", "cloud"
			if p.Spec.Priority != nil {
				priority = strconv.Itoa(int(*p.Spec.Priority))
			}
			if s := p.Annotations[sourceAnnotation]; s != "" && s != "api" {
				source = s
			}
			row = append(row, p.Status.PodIP, priority, source)
		}
		rows = append(rows, row)
	}
	return table(w, rows)
}

// summary is a pod in a line, in the words of kubectl.
type summary struct {
	ready, total int
	status       string
	restarts     int32
	lastRestart  time.Time
}

func summarize(p *corev1.Pod) summary {
	s := summary{total: len(p.Spec.Containers), status: string(p.Status.Phase)}
	if p.Status.Reason != "" {
		s.status = p.Status.Reason
	}
	if s.status == "" {
		s.status = "Unknown"
	}
	if why := s.initializing(p); why != "" {
		s.status = why
	} else {
		s.containers(p)
	}
	if p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
		s.status = "Terminating"
	}
	return s
}

// initializing says how far initialization is, and nothing when it is over.
func (s *summary) initializing(p *corev1.Pod) string {
	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars[c.Name] = true
			s.total++
		}
	}
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		s.count(c)
		switch {
		case c.State.Terminated != nil && c.State.Terminated.ExitCode == 0:
			continue
		case sidecars[c.Name] && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case c.State.Terminated != nil:
			return "Init:" + ended(c.State.Terminated)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			return "Init:" + c.State.Waiting.Reason
		}
		return fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
	}
	return ""
}

func (s *summary) containers(p *corev1.Pod) {
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- { // the first one's word counts
		c := &p.Status.ContainerStatuses[i]
		s.count(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.status = ended(c.State.Terminated)
		case c.State.Running != nil && c.Ready:
			running = true
			s.ready++
		}
	}
	if s.status == "Completed" && running {
		s.status = "NotReady"
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				s.status = "Running"
			}
		}
	}
}

// count adds a container's restarts.
func (s *summary) count(c *corev1.ContainerStatus) {
	s.restarts += c.RestartCount
	if t := c.LastTerminationState.Terminated; t != nil && t.FinishedAt.After(s.lastRestart) {
		s.lastRestart = t.FinishedAt.Time
	}
}

func ended(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}
