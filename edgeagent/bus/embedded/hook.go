package embedded

import (
	"bytes"
	"errors"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-io/skerry/edgeagent/bus"
)

const (
	// maxKeepalive bounds how long a client may be silent, in seconds. One of MQTT 5 is
	// told; one of 3.1.1 that asks for more is cut off after one and a half of it.
	maxKeepalive = 1200
	// maxSubscriptions bounds those of a client.
	maxSubscriptions = 64
)

var errClient = errors.New("client refused")

// hook is how mochi-mqtt asks who may do what, and tells what comes.
type hook struct {
	mqtt.HookBase
	b *Broker
}

// ID implements mqtt.Hook.
func (h *hook) ID() string { return "skerry" }

// Provides implements mqtt.Hook.
func (h *hook) Provides(b byte) bool {
	return bytes.IndexByte([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPacketRead, mqtt.OnSubscribe, mqtt.OnSubscribed,
		mqtt.OnPacketProcessed, mqtt.OnPublish, mqtt.OnPublishDropped, mqtt.OnClientExpired,
	}, b) >= 0
}

func connOf(cl *mqtt.Client) *conn {
	c, _ := cl.Net.Conn.(*conn)
	return c
}

// OnConnect implements mqtt.Hook: it bounds what the client asks for, before anything of
// it counts.
func (h *hook) OnConnect(cl *mqtt.Client, _ packets.Packet) error {
	if len(cl.ID) > bus.MaxTopic || len(cl.Properties.Username) > maxName {
		return errClient
	}
	// An id is of its user: nobody takes over the session of another one, nor the
	// broker's own, which is called inline.
	cl.ID = string(cl.Properties.Username) + "/" + cl.ID
	if cl.State.Keepalive == 0 || cl.State.Keepalive > maxKeepalive {
		cl.State.Keepalive = maxKeepalive
		cl.State.ServerKeepalive = true
	}
	if cl.Properties.ProtocolVersion < 5 {
		cl.Properties.Clean = true // a session ends with its connection
	}
	cl.Properties.Props.TopicAliasMaximum = 0 // a table for each client
	cl.Properties.Will.WillDelayInterval = 0  // its session has ended
	cl.Properties.Will.Retain = false         // as with all that clients publish
	return nil
}

// OnConnectAuthenticate implements mqtt.Hook. mochi-mqtt checks no right to publish a
// last will, so it is done here.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	c := connOf(cl)
	a, err := h.b.users.authenticate(string(pk.Connect.Username), pk.Connect.Password)
	if err == nil && pk.Connect.WillFlag && (!bus.ValidTopic(pk.Connect.WillTopic) || bus.Reserved(pk.Connect.WillTopic) || !covered(a.Publish, pk.Connect.WillTopic)) {
		err = errors.New("the last will is for a topic to which this user may not publish")
	}
	if c == nil || err != nil {
		h.b.denied.Add(1)
		h.b.log.Warn("client of the local bus refused", "remote", cl.Net.Remote, "user", string(pk.Connect.Username), "error", err)
		return false
	}
	c.account = a
	h.b.log.Info("client of the local bus", "remote", cl.Net.Remote, "client", cl.ID)
	return true
}

// OnACLCheck implements mqtt.Hook. It is asked of what is published, of each filter of a
// subscription, and of each message that goes to a client.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	c := connOf(cl)
	if c == nil || c.account == nil || topic == "" || topic[0] == '$' {
		return false
	}
	if !write {
		return covered(c.account.Subscribe, topic)
	}
	_, command := bus.ParseCommandTopic(topic)
	ok := bus.ValidTopic(topic) && (command || !bus.Reserved(topic)) && covered(c.account.Publish, topic)
	if !ok {
		h.b.denied.Add(1)
	}
	return ok
}

// OnPacketRead implements mqtt.Hook: a client that sends too much waits.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := connOf(cl)
	if c == nil {
		return pk, nil
	}
	if wait := c.pace(time.Now()); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		<-t.C
	}
	return pk, nil
}

// OnSubscribe implements mqtt.Hook: a filter that is not taken is made one that is none,
// which mochi-mqtt refuses.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := connOf(cl)
	if c == nil {
		return pk
	}
	c.wanted, c.granted = make([]string, len(pk.Filters)), nil
	count := cl.State.Subscriptions.Len()
	for i := range pk.Filters {
		f := &pk.Filters[i]
		_, existed := cl.State.Subscriptions.Get(f.Filter)
		if !existed {
			count++
		}
		if !bus.ValidFilter(f.Filter) || count > maxSubscriptions {
			f.Filter = ""
			continue
		}
		if f.RetainHandling == 0 || f.RetainHandling == 1 && !existed {
			c.wanted[i] = f.Filter
		}
	}
	return pk
}

// OnSubscribed implements mqtt.Hook.
func (h *hook) OnSubscribed(cl *mqtt.Client, _ packets.Packet, codes []byte) {
	c := connOf(cl)
	if c == nil {
		return
	}
	for i, filter := range c.wanted {
		if filter != "" && i < len(codes) && codes[i] < packets.ErrUnspecifiedError.Code {
			c.granted = append(c.granted, filter)
		}
	}
	c.wanted = nil
}

// OnPacketProcessed implements mqtt.Hook: when a subscription is acknowledged, what is
// retained follows, as fast as the client reads.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, err error) {
	c := connOf(cl)
	if c == nil || pk.FixedHeader.Type != packets.Subscribe {
		return
	}
	filters := c.granted
	c.granted = nil
	if err == nil && len(filters) > 0 {
		h.b.feed(cl, filters)
	}
}

// OnPublish implements mqtt.Hook: commands end here, and nothing of clients is retained.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	t, ok := bus.ParseCommandTopic(pk.TopicName)
	c := connOf(cl)
	if c == nil {
		return pk, nil
	}
	if !ok {
		pk.FixedHeader.Retain = false // memory is not theirs
		return pk, nil
	}
	cmd := bus.Command{
		Target: t, Payload: bytes.Clone(pk.Payload), Retained: pk.FixedHeader.Retain, From: cl.ID,
		Response: pk.Properties.ResponseTopic, Correlation: bytes.Clone(pk.Properties.CorrelationData),
	}
	// The edge publishes the answer for the client, to where the client itself may.
	if r := cmd.Response; r != "" && (!bus.ValidTopic(r) || bus.Reserved(r) || !covered(c.account.Publish, r)) {
		h.b.denied.Add(1)
		cmd.Response = ""
	}
	h.b.command(cmd)
	return pk, packets.CodeSuccessIgnore
}

// OnPublishDropped implements mqtt.Hook: a client that is so slow that messages of its
// would be missing is cut off. When it is back it gets what is retained.
func (h *hook) OnPublishDropped(cl *mqtt.Client, _ packets.Packet) {
	if cl.Closed() {
		return
	}
	h.b.slow.Add(1)
	h.b.log.Warn("client of the local bus is too slow and cut off", "client", cl.ID)
	cl.Stop(packets.ErrQuotaExceeded)
}

// OnClientExpired implements mqtt.Hook: mochi-mqtt leaves the subscriptions of a client
// that did not even get its CONNACK.
func (h *hook) OnClientExpired(cl *mqtt.Client) { h.b.server.UnsubscribeClient(cl) }
