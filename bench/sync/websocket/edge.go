package websocket

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/bench/tunnel/system"
)

// EdgeConfig is what an Edge needs.
type EdgeConfig struct {
	// Node is its name, Address the cloud's.
	Node, Address string
	TLS           *tls.Config
	// Dir is for the objects.
	Dir string
	// Stored is called with each object that is on the disk and was not before.
	Stored func(object []byte)
}

// Edge is the end at the node.
type Edge struct {
	cfg    EdgeConfig
	files  Files
	synced chan struct{}
	once   sync.Once

	mu sync.Mutex // of the connection's writer
}

// NewEdge makes an Edge for one Run.
func NewEdge(cfg EdgeConfig) (*Edge, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	return &Edge{cfg: cfg, files: Files{cfg.Dir}, synced: make(chan struct{})}, nil
}

// Synced is closed when the first lists are stored.
func (e *Edge) Synced() <-chan struct{} { return e.synced }

// Run keeps one connection until ctx ends.
func (e *Edge) Run(ctx context.Context) error {
	for {
		err := e.connect(ctx)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(redial):
		}
	}
}

func (e *Edge) connect(ctx context.Context) error {
	tcp := net.Dialer{Control: system.Cubic}
	conf := e.cfg.TLS.Clone()
	conf.NextProtos = []string{alpn}
	dialer := websocket.Dialer{NetDialContext: tcp.DialContext, TLSClientConfig: conf, HandshakeTimeout: timeout}
	ws, answer, err := dialer.DialContext(ctx, "wss://"+e.cfg.Address+pathPrefix+e.cfg.Node, nil)
	if answer != nil {
		_ = answer.Body.Close()
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = ws.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { e.beat(ctx, ws) })
	err = e.read(ws)
	cancel()
	wg.Wait()
	return err
}

// beat sends what an idle edge sends.
func (e *Edge) beat(ctx context.Context, ws *websocket.Conn) {
	keepalive, lease := time.NewTicker(keepaliveEvery), time.NewTicker(leaseEvery)
	defer keepalive.Stop()
	defer lease.Stop()
	for {
		var m *message
		var err error
		select {
		case <-ctx.Done():
			return
		case <-keepalive.C:
			m = newMessage("edgehub", opKeepalive, "node", json.RawMessage(`"ping"`))
		case <-lease.C:
			if m, err = e.lease(); err != nil {
				return
			}
		}
		if err := e.write(ws, m); err != nil {
			return // the reader fails, too
		}
	}
}

// lease is what a kubelet writes every ten seconds.
func (e *Edge) lease() (*message, error) {
	seconds, now := int32(40), metav1.NowMicro()
	l := coordinationv1.Lease{
		TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{
			Name: e.cfg.Node, Namespace: "kube-node-lease", ResourceVersion: "123456", UID: "3b5f2e1c-0000-0000-0000-000000000000",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: e.cfg.Node, UID: "9a7d6c5b-0000-0000-0000-000000000000"}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &e.cfg.Node, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}
	b, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return newMessage("metaManager", opLease, "kube-node-lease/lease/"+e.cfg.Node, b), nil
}

func (e *Edge) write(ws *websocket.Conn, m *message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return write(ws, m)
}

// read stores what comes, and acknowledges each message when it is on the disk.
func (e *Edge) read(ws *websocket.Conn) error {
	for {
		var m message
		if err := ws.ReadJSON(&m); err != nil {
			return err
		}
		switch m.Route.Operation {
		case opResponse:
			continue
		case opUpdate:
			if err := e.files.Put(m.Route.Resource, m.Content); err != nil {
				return err
			}
			e.cfg.Stored(m.Content)
		case opDelete:
			if err := e.files.Delete(m.Route.Resource); err != nil {
				return err
			}
		case opList:
			if err := e.list(m); err != nil {
				return err
			}
		default:
			return fmt.Errorf("operation %q", m.Route.Operation)
		}
		if err := e.write(ws, m.response("metaManager", json.RawMessage(`"OK"`))); err != nil {
			return err
		}
	}
}

func (e *Edge) list(m message) error {
	var items []item
	if err := json.Unmarshal(m.Content, &items); err != nil {
		return err
	}
	changed, err := e.files.putAll(items)
	if err != nil {
		return err
	}
	for _, i := range changed {
		e.cfg.Stored(i.Object)
	}
	if m.Route.Resource == configMapList { // the last one
		e.once.Do(func() { close(e.synced) })
	}
	return nil
}

// write sends one message.
func write(ws *websocket.Conn, m *message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return errors.Join(ws.SetWriteDeadline(time.Now().Add(timeout)), ws.WriteMessage(websocket.TextMessage, b))
}
