package websocket

import (
	"context"
	"encoding/json"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// The resources of objects.
const (
	pods       = "pod"
	configMaps = "configmap"
)

const cloudSource = "edgecontroller"

// node is one connection. Its keys are RESOURCE/NAMESPACE/NAME.
type node struct {
	name string
	ws   *websocket.Conn
	bell chan struct{} // capacity 1: there are keys
	acks chan string   // ids of the messages that were acknowledged

	mu     sync.Mutex // guards the following fields
	order  []string
	queued map[string]bool
	named  map[string]bool // ConfigMaps that pods of the node name

	writing sync.Mutex // of the connection's writer
}

func newNode(name string, ws *websocket.Conn) *node {
	return &node{
		name: name, ws: ws, bell: make(chan struct{}, 1), acks: make(chan string, 1),
		queued: map[string]bool{}, named: map[string]bool{},
	}
}

func key(resource string, m metav1.Object) string {
	return resource + "/" + m.GetNamespace() + "/" + m.GetName()
}

// changed queues an object, and with a pod what it names anew.
func (n *node) changed(resource string, m metav1.Object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := key(resource, m)
	if pod, ok := m.(*corev1.Pod); ok {
		for _, k := range names(pod) {
			if !n.named[k] {
				n.named[k] = true
				n.queueLocked(k)
			}
		}
	} else if !n.named[k] {
		return
	}
	n.queueLocked(k)
}

func (n *node) queueLocked(k string) {
	if !n.queued[k] {
		n.queued[k] = true
		n.order = append(n.order, k)
	}
	select {
	case n.bell <- struct{}{}:
	default:
	}
}

func (n *node) next() (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.order) == 0 {
		return "", false
	}
	k := n.order[0]
	n.order = n.order[1:]
	delete(n.queued, k)
	return k, true
}

// names are the ConfigMaps in a pod's volumes, which is where the benchmark has
// them.
func names(pod *corev1.Pod) []string {
	var keys []string
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			keys = append(keys, configMaps+"/"+pod.Namespace+"/"+v.ConfigMap.Name)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				keys = append(keys, configMaps+"/"+pod.Namespace+"/"+s.ConfigMap.Name)
			}
		}
	}
	return keys
}

// send sends the lists, and then what changes, one message at a time.
func (n *node) send(ctx context.Context, c *Cloud) error {
	if err := n.lists(ctx, c); err != nil {
		return err
	}
	for {
		for k, ok := n.next(); ok; k, ok = n.next() {
			m, err := c.message(k)
			if err != nil {
				return err
			}
			if err := n.exchange(ctx, m); err != nil {
				return err
			}
		}
		select {
		case <-n.bell:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lists sends all objects, a message for each resource: one for each object would
// cost a round trip each.
func (n *node) lists(ctx context.Context, c *Cloud) error {
	all, err := c.pods.List(labels.Everything())
	if err != nil {
		return err
	}
	byList := map[string][]item{podList: {}, configMapList: {}}
	seen := map[string]bool{}
	for _, pod := range all {
		if pod.Spec.NodeName != n.name {
			continue
		}
		o, err := json.Marshal(pod)
		if err != nil {
			return err
		}
		byList[podList] = append(byList[podList], item{key(pods, pod), o})
		for _, k := range names(pod) {
			n.mu.Lock()
			n.named[k] = true
			n.mu.Unlock()
			if seen[k] {
				continue
			}
			seen[k] = true
			_, o, err := c.object(k)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return err
			}
			byList[configMapList] = append(byList[configMapList], item{k, o})
		}
	}
	for _, resource := range []string{podList, configMapList} {
		b, err := json.Marshal(byList[resource])
		if err != nil {
			return err
		}
		if err := n.exchange(ctx, newMessage(cloudSource, opList, resource, b)); err != nil {
			return err
		}
	}
	return nil
}

// object reads what is now.
func (c *Cloud) object(k string) (version string, object []byte, err error) {
	f := strings.SplitN(k, "/", 3)
	var o metav1.Object
	if f[0] == pods {
		o, err = c.pods.Pods(f[1]).Get(f[2])
	} else {
		o, err = c.configMaps.ConfigMaps(f[1]).Get(f[2])
	}
	if err != nil {
		return "", nil, err
	}
	object, err = json.Marshal(o)
	return o.GetResourceVersion(), object, err
}

func (c *Cloud) message(k string) (*message, error) {
	version, o, err := c.object(k)
	if apierrors.IsNotFound(err) {
		return newMessage(cloudSource, opDelete, k, nil), nil
	}
	if err != nil {
		return nil, err
	}
	m := newMessage(cloudSource, opUpdate, k, o)
	m.Header.ResourceVersion = version
	return m, nil
}

// exchange sends a message and waits for its acknowledgement.
func (n *node) exchange(ctx context.Context, m *message) error {
	if err := n.write(m); err != nil {
		return err
	}
	for {
		select {
		case id := <-n.acks:
			if id == m.Header.ID {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *node) write(m *message) error {
	n.writing.Lock()
	defer n.writing.Unlock()
	return write(n.ws, m)
}

// read takes what the edge says until the connection ends.
func (n *node) read() {
	for {
		var m message
		if err := n.ws.ReadJSON(&m); err != nil {
			return
		}
		switch m.Route.Operation {
		case opResponse:
			select {
			case n.acks <- m.Header.ParentID:
			default: // nobody waits for it
			}
		case opLease: // the object comes back, as from the API
			if err := n.write(m.response(cloudSource, m.Content)); err != nil {
				return
			}
		}
	}
}
