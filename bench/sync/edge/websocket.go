package edge

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/bench/sync/websocket"
)

// other is an edge of the other kind.
type other struct{ config websocket.EdgeConfig }

func newWebsocket(w Websocket, stored func(string, time.Time)) (*other, error) {
	issuer, err := w.Authority.Issuer()
	if err != nil {
		return nil, err
	}
	conf, err := issuer.Client(w.Node, tls.NewLRUClientSessionCache(ticketCache))
	if err != nil {
		return nil, err
	}
	o := &other{config: websocket.EdgeConfig{Node: w.Node, Address: w.Address, TLS: conf, Dir: w.Dir}}
	o.config.Stored = func(object []byte) {
		at := time.Now()
		var m metav1.PartialObjectMetadata
		if json.Unmarshal(object, &m) == nil {
			stored(m.Annotations[Mark], at)
		}
	}
	return o, nil
}

func (o *other) connection() (run func(context.Context) error, synced func() bool, err error) {
	e, err := websocket.NewEdge(o.config)
	if err != nil {
		return nil, nil, err
	}
	synced = func() bool {
		select {
		case <-e.Synced():
			return true
		default:
			return false
		}
	}
	return e.Run, synced, nil
}
