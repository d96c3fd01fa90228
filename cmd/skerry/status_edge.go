package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/cloudproxy/status"
)

// What an edge can be. Unknown is one whose proxy can't be asked while its Node
// does not say that it is offline.
const (
	stateConnected = "connected"
	stateOffline   = "offline"
	stateUnknown   = "unknown"
	stateRemoved   = "removed"
)

const (
	// maxAsked bounds the requests under way.
	maxAsked = 16
	// askTimeout bounds one. The proxy answers out of its memory.
	askTimeout = 10 * time.Second
)

// edge is one line: what the proxy says of the session, or else the Node.
type edge struct {
	Node  string `json:"node"`
	State string `json:"state"`
	// Since is when the state began, as far as it is known.
	Since        time.Time `json:"since,omitzero"`
	AgentVersion string    `json:"agentVersion,omitempty"`
	// Addresses are those of the edge's machine; the Node has the proxy's.
	Addresses []string `json:"addresses,omitempty"`
	// Certificate is nil when nothing is known of it.
	Certificate *certificate `json:"certificate,omitempty"`
	// Session is nil when there is none, or none that is known.
	*status.Session
	// Problem is why the proxy could not be asked.
	Problem string `json:"problem,omitempty"`
	err     error
}

// alike says that two looks at an edge show nothing new but counters.
func (e *edge) alike(o *edge) bool {
	if e.State != o.State || !e.Since.Equal(o.Since) || e.AgentVersion != o.AgentVersion || (e.Session == nil) != (o.Session == nil) {
		return false
	}
	return e.Session == nil || e.SessionSince.Equal(o.SessionSince) && e.Link == o.Link && e.Remote == o.Remote && e.Resumes == o.Resumes
}

// edges asks for all edges, or the one of the query, ordered by name.
func (q *query) edges(ctx context.Context) ([]edge, error) {
	nodes, err := q.nodes(ctx)
	if err != nil {
		return nil, err
	}
	q.bundle = q.cas(ctx)
	edges := make([]edge, len(nodes))
	var down unreachable
	var g errgroup.Group
	g.SetLimit(maxAsked)
	for i := range nodes {
		g.Go(func() error {
			edges[i] = q.edge(ctx, &nodes[i], &down)
			return nil
		})
	}
	_ = g.Wait() // what fails is told with the edge
	slices.SortFunc(edges, func(a, b edge) int { return strings.Compare(a.Node, b.Node) })
	return edges, ctx.Err()
}

// nodes gives the Node objects of the edges.
func (q *query) nodes(ctx context.Context) ([]corev1.Node, error) {
	if q.name == "" {
		list, err := q.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: report.LabelEdge + "=true"})
		if err != nil {
			return nil, fmt.Errorf("list nodes: %w", err)
		}
		return slices.DeleteFunc(list.Items, func(n corev1.Node) bool { return !report.Owned(&n) }), nil
	}
	node, err := q.client.CoreV1().Nodes().Get(ctx, q.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("there is no edge %s; 'skerry status' lists all", q.name)
	case err != nil:
		return nil, fmt.Errorf("get node %s: %w", q.name, err)
	case !report.Owned(node):
		return nil, fmt.Errorf("node %s is not an edge of Skerry; 'skerry status' lists all", q.name)
	}
	return []corev1.Node{*node}, nil
}

// edge asks the proxy, and the Node for what the proxy does not know.
func (q *query) edge(ctx context.Context, node *corev1.Node, down *unreachable) edge {
	lost, offline := report.OfflineSince(node)
	proxy := proxyAddress(node)
	err := down.of(proxy)
	e := edge{Node: node.Name, State: stateOffline, Addresses: report.EdgeAddresses(node), Certificate: certificateOf(node, q.bundle)}
	var session status.Session
	if err == nil {
		session, err = q.session(ctx, node.Name)
		if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			down.note(proxy, err)
		}
	}
	e.Since, e.AgentVersion = session.Since, session.AgentVersion
	if !session.SessionSince.IsZero() {
		e.Session = &session
	}
	switch {
	case err != nil:
		e.err = explain(node.Name, err)
		e.Problem = e.err.Error()
		switch {
		case offline:
		case apierrors.IsForbidden(err):
			e.State = stateConnected // the Node's word must do
		default:
			e.State = stateUnknown
		}
	case session.Connected:
		e.State = stateConnected
	}
	if e.State == stateOffline && e.Since.IsZero() && offline {
		e.Since = lost
	}
	if e.AgentVersion == "" {
		_, e.AgentVersion, _ = strings.Cut(node.Status.NodeInfo.KubeletVersion, "-skerry.")
	}
	return e
}

func (q *query) session(ctx context.Context, node string) (status.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var s status.Session
	answer := q.client.CoreV1().RESTClient().Get().Resource("nodes").Name(node).SubResource("proxy").Suffix(status.Path).Do(ctx)
	if err := answer.Error(); err != nil { // it reads a Status, which Raw does not
		return s, err
	}
	body, err := answer.Raw()
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("decode the proxy's answer: %w", err)
	}
	return s, nil
}

// explain says what to do about an answer that is none.
func explain(node string, err error) error {
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("the session of %s can't be read: %s; its figures need the right to get nodes/proxy", node, reason(err))
	case apierrors.IsNotFound(err):
		return fmt.Errorf("the cloud proxy does not tell about the session of %s: it is older than this command, upgrade it", node)
	}
	return fmt.Errorf("kube-apiserver can't reach the cloud proxy of %s: %s; does it run, and is its --node-address right?", node, reason(err))
}

// reason digs out what was answered: for what is not a Status client-go has
// general words, such as "the server is currently unable to handle the request".
func reason(err error) string {
	if e, ok := errors.AsType[*apierrors.StatusError](err); ok && e.Status().Details != nil {
		for _, c := range e.Status().Details.Causes {
			if text := strings.TrimSpace(oneLine(c.Message)); c.Type == metav1.CauseTypeUnexpectedServerResponse && text != "" && text != "unknown" {
				return text
			}
		}
	}
	return err.Error()
}

// proxyAddress is where kube-apiserver finds the kubelet of an edge.
func proxyAddress(node *corev1.Node) string {
	for _, t := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeHostName} {
		for _, a := range node.Status.Addresses {
			if a.Type == t {
				return a.Address
			}
		}
	}
	return ""
}

// unreachable remembers proxies that did not answer, so that not every edge of
// one is waited for.
type unreachable struct {
	mu      sync.Mutex // guards the following field
	proxies map[string]error
}

func (u *unreachable) of(proxy string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.proxies[proxy]
}

func (u *unreachable) note(proxy string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proxies == nil {
		u.proxies = make(map[string]error)
	}
	u.proxies[proxy] = err
}
