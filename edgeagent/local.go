package edgeagent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/local"
	"github.com/skerry-io/skerry/edgeagent/pods"
	"github.com/skerry-io/skerry/edgeagent/report"
	"github.com/skerry-io/skerry/edgeagent/staticpods"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// localTimeout bounds what is asked of the runtime for a local answer.
const localTimeout = 5 * time.Second

// localSource is what root on this machine may know.
type localSource struct {
	name   string
	labels map[string]string
	server string
	pods   *pods.Manager
	files  *staticpods.Source // nil without
	report *report.Reporter
	store  *store.Store
	up     *uplink.Uplink
}

var _ local.Source = (*localSource)(nil)

// localServer answers root on this machine.
func (a *Agent) localServer(src *localSource, api *kubeletapi.Server) (*local.Server, error) {
	src.name, src.labels, src.server = a.cfg.NodeName, a.cfg.Labels, a.cfg.Server
	return local.New(local.Config{
		Socket:  local.SocketPath(a.cfg.StateDir),
		Source:  src,
		Kubelet: api.Handler(),
		Exec:    api.ServeCommand,
		Log:     a.log,
	})
}

// Pods implements local.Source.
func (s *localSource) Pods() local.Pods {
	var out local.Pods
	for _, p := range s.pods.Pods() {
		out.Pods = append(out.Pods, *p)
	}
	if s.files != nil {
		out.Problems = s.files.Problems()
	}
	return out
}

// Node implements local.Source.
func (s *localSource) Node(ctx context.Context) *corev1.Node {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	node := &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: s.name, Labels: s.labels},
		Status:     *s.report.NodeStatus(ctx),
	}
	node.Status.Conditions = append(node.Status.Conditions, cloudCondition(s.up.State(), s.server, time.Now()))
	return node
}

// cloudCondition says whether there is a cloud.
func cloudCondition(state uplink.State, server string, now time.Time) corev1.NodeCondition {
	c := corev1.NodeCondition{
		Type: local.ConditionCloudConnected, Status: corev1.ConditionTrue, Reason: "SessionOpen",
		Message:            "connected to " + server,
		LastHeartbeatTime:  metav1.NewTime(now),
		LastTransitionTime: metav1.NewTime(state.Since),
	}
	if !state.Connected {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "NoSession", server+" can't be reached"
		if state.Err != nil {
			c.Message += ": " + state.Err.Error()
		}
	}
	return c
}

// ConfigMaps implements local.Source.
func (s *localSource) ConfigMaps(namespace, name string) ([]corev1.ConfigMap, error) {
	prefix := string(wire.ResourceConfigMaps) + "/"
	if namespace != "" {
		prefix += namespace + "/"
	}
	var out []corev1.ConfigMap
	var bad error
	err := s.store.List(prefix, func(o store.Object) bool {
		var cm corev1.ConfigMap
		if err := cm.Unmarshal(o.Value); err != nil {
			bad = fmt.Errorf("decode %s: %w", o.Key, err)
			return true // the others can be read all the same
		}
		if name == "" || cm.Name == name {
			cm.APIVersion, cm.Kind = "v1", "ConfigMap"
			out = append(out, cm)
		}
		return true
	})
	if err == nil && len(out) == 0 {
		err = bad
	}
	if err != nil {
		return nil, fmt.Errorf("list ConfigMaps: %w", err)
	}
	slices.SortFunc(out, func(a, b corev1.ConfigMap) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}
