package edgeagent

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/pods"
	"github.com/skerry-io/skerry/edgeagent/pods/certificates"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/report"
)

// podParts are the agent's other parts that its pods need.
type podParts struct {
	objects   pods.Objects // what is to run, from cloud and files
	fromCloud *desired.Objects
	issued    *certificates.Keeper
	rep       *report.Reporter
	client    *cri.Client
	groups    cgroups.Layout
	steps     *desired.Steps
	bounds    *bounds
}

func (a *Agent) podManager(p podParts) (*pods.Manager, error) {
	return pods.New(pods.Config{
		Objects:      p.objects,
		Claims:       p.fromCloud,
		Services:     p.fromCloud,
		Bundles:      p.fromCloud,
		Certificates: p.issued,

		Node:     func() (*corev1.Node, error) { return p.fromCloud.Node(a.cfg.NodeName) },
		Reporter: p.rep,
		Static:   p.rep,
		Events:   podEvents{p.rep},
		Steps:    p.steps,

		CRI:            p.client,
		RuntimeHandler: p.fromCloud.RuntimeHandler,
		Features:       handlerFeatures(p.client),
		Handlers:       p.bounds.able.handlers,
		Keyring:        a.keyring,
		ParallelPulls:  a.cfg.MaxParallelImagePulls,

		StateDir:      a.cfg.StateDir,
		LogsDir:       a.cfg.PodLogsDir,
		Groups:        p.groups,
		NodeName:      a.cfg.NodeName,
		HostIP:        hostIPs,
		ClusterDNS:    a.cfg.ClusterDNS,
		ClusterDomain: a.cfg.ClusterDomain,

		Capacity:             func() corev1.ResourceList { all, _ := p.rep.Resources(); return all },
		Allocatable:          func() corev1.ResourceList { _, rest := p.rep.Resources(); return rest },
		Pressures:            p.bounds.pressures,
		Enforce:              a.enforced(),
		AllowedUnsafeSysctls: a.cfg.AllowedUnsafeSysctls,
		PodPidsLimit:         a.cfg.PodPidsLimit,
		Log:                  a.log,
	})
}

// handlerFeatures asks the runtime each time: few pods want what it tells, and the
// runtime may be another one by then.
func handlerFeatures(client *cri.Client) func(context.Context, string) (cri.HandlerFeatures, error) {
	return func(ctx context.Context, handler string) (cri.HandlerFeatures, error) {
		health, err := client.Health(ctx)
		if err != nil {
			return cri.HandlerFeatures{}, err
		}
		for _, h := range health.Handlers {
			if h.Name == handler {
				return h.HandlerFeatures, nil
			}
		}
		return cri.HandlerFeatures{}, nil
	}
}

// podEvents hands the pod workers' events to the outbox.
type podEvents struct{ to *report.Reporter }

func (e podEvents) Event(ref pods.PodRef, kind, reason, message string) {
	e.to.PodEvent(ref.Namespace, ref.Name, ref.UID, ref.FieldPath, kind, reason, message)
}

var _ pods.Events = podEvents{}
