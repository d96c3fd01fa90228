package opcua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/session"
	"github.com/skerry-io/skerry/devices/opcua/subscription"
)

var (
	// errSilent: three keep-alives did not come. The connection is dead, whatever
	// TCP says.
	errSilent = errors.New("the server has been silent for three keep-alives")
	errGone   = errors.New("the subscription has ended at the server")
)

const (
	firstRetry, longestRetry = 10 * time.Second, 10 * time.Minute // of an item that the server refuses
	repairWait               = 200 * time.Millisecond             // a message may be in another worker's hands
	refusedWait              = 10 * time.Second                   // when the server refuses the whole subscription
)

// serve keeps the device's subscription alive on a link. Its error ends the link;
// errLeft only the device's part in it.
func (c *conn) serve(ctx context.Context, l *link) error {
	defer c.setLink(nil)
	for {
		err := c.attach(ctx, l)
		if err == nil {
			c.setLink(l)
			c.report(devices.Health{Connected: true, Reason: devices.ReasonConnected, Message: describe(l)})
			err = c.watch(ctx, l)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errLeft):
			c.drop()
			return err
		case errors.Is(err, errGone):
			c.drop()
			continue
		case subscription.Refused(err):
			// The server refuses what this device needs, as for want of room. That is no
			// reason to take the session from the others.
			c.report(devices.Health{Connected: true, Reason: devices.ReasonConnected, Message: describe(l), Degraded: "SubscriptionRefused", DegradedMessage: limit(err.Error())})
			c.setLink(l)
			if err := c.pause(ctx, refusedWait); err != nil {
				return err
			}
			continue
		}
		return err
	}
}

func describe(l *link) string {
	cfg := l.session.Channel().Config()
	return fmt.Sprintf("%s, %s", cfg.URL, cfg.Policy[strings.LastIndexByte(cfg.Policy, '#')+1:])
}

func (c *conn) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.left:
		return errLeft
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drop forgets the subscription; a new one takes its place.
func (c *conn) drop() {
	c.mu.Lock()
	s := c.sub
	c.sub = nil
	c.mu.Unlock()
	if s != nil {
		c.hub.publisher.Remove(s.revised.ID)
	}
}

// watch looks after the subscription until something is wrong.
func (c *conn) watch(ctx context.Context, l *link) error {
	c.mu.Lock()
	s := c.sub
	c.mu.Unlock()
	if s == nil { // nothing to watch: methods only
		select {
		case <-c.left:
			return errLeft
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	look := time.NewTimer(10 * time.Millisecond)
	defer look.Stop()
	tell := time.NewTicker(5 * time.Second)
	defer tell.Stop()
	for {
		select {
		case <-c.left:
			return errLeft
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tell.C:
			c.again()
			if err := c.retryRefused(ctx, l, s); err != nil && !subscription.Refused(err) {
				return err
			}
		case <-look.C:
			silent, wait := s.silent()
			if silent {
				return errSilent
			}
			look.Reset(wait)
		case <-s.repair:
			if err := c.pause(ctx, repairWait); err != nil {
				return err
			}
			if err := c.mend(ctx, l, s); err != nil {
				return err
			}
		}
	}
}

func (c *conn) mend(ctx context.Context, l *link, s *sub) error {
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	if gone {
		return errGone
	}
	gone, err := s.catchUp(ctx, l.session, true)
	switch {
	case gone:
		return errGone
	case subscription.Refused(err):
		s.ask() // later
		return c.pause(ctx, time.Second)
	}
	return err
}

// attach makes sure that there is a subscription: the old one, caught up, if the
// server has it still, else a new one.
func (c *conn) attach(ctx context.Context, l *link) error {
	if err := c.resolve(ctx, l); err != nil {
		return err
	}
	if len(c.settings.items) == 0 {
		return nil
	}
	c.mu.Lock()
	s, saved := c.sub, c.saved
	c.saved.id = 0 // one try
	c.mu.Unlock()
	switch {
	case s != nil && l.resumed:
		return c.resume(ctx, l, s, false)
	case s != nil && s.start == l.start:
		return c.resume(ctx, l, s, true)
	case s != nil:
		c.drop()
	case saved.id != 0 && saved.start == l.start:
		// What the server made of it is not saved: what was asked for is near enough
		// for the watchdog, as servers lengthen keep-alives seldom and keep them then.
		s = newSub(c, l, subscription.Revised{ID: saved.id, Publishing: c.settings.params.Publishing, KeepAlive: c.settings.params.KeepAlive}, saved.last)
		if saved.hash == c.settings.hash {
			c.mu.Lock()
			c.sub = s
			c.stored[s] = saved.last
			c.mu.Unlock()
			c.takeRefused(saved.refuse)
			return c.resume(ctx, l, s, true)
		}
		// The Device was changed. What the old subscription holds is of other items.
		if _, ok, err := subscription.Transfer(ctx, l.session, saved.id); err != nil {
			return err
		} else if ok {
			subscription.Delete(ctx, l.session, saved.id)
		}
	}
	return c.create(ctx, l)
}

// resume takes up a subscription: with transfer from another session.
func (c *conn) resume(ctx context.Context, l *link, s *sub, transfer bool) error {
	s.mu.Lock()
	s.link = l
	s.mu.Unlock()
	if transfer {
		available, ok, err := subscription.Transfer(ctx, l.session, s.revised.ID)
		if err != nil {
			return err
		}
		if !ok {
			c.drop()
			return c.create(ctx, l)
		}
		c.count("transferred", 1)
		for _, n := range available {
			c.acknowledgeStale(s, n)
		}
	}
	gone, err := s.catchUp(ctx, l.session, false)
	if err != nil {
		return err
	}
	if gone {
		c.drop()
		return c.create(ctx, l)
	}
	s.mu.Lock()
	s.seen = time.Now()
	s.mu.Unlock()
	c.hub.publisher.Add(s)
	return nil
}

// create makes a new subscription with all items.
func (c *conn) create(ctx context.Context, l *link) error {
	revised, err := subscription.Create(ctx, l.session, c.settings.params)
	if err != nil {
		return err
	}
	s := newSub(c, l, revised, 0)
	if err := c.inbox.push(ctx, entry{sub: s, fresh: true}); err != nil {
		return err
	}
	c.mu.Lock()
	c.sub = s
	c.mu.Unlock()
	c.count("subscribed", 1)
	// Before the items, whose first values may come at once.
	c.hub.publisher.Add(s)
	if err := c.watchItems(ctx, l, s, c.settings.items); err != nil {
		if subscription.Refused(err) {
			c.drop()
			subscription.Delete(ctx, l.session, revised.ID)
		}
		return err
	}
	return nil
}

// watchItems adds items to a subscription, and notes those that are refused.
func (c *conn) watchItems(ctx context.Context, l *link, s *sub, items []*item) error {
	var add []subscription.Item
	var which []*item
	news := false
	for _, it := range items {
		if it.node == nil {
			news = c.refuse(it, ua.StatusBadNodeIDUnknown) || news
			continue
		}
		if it.model.Access == "WriteOnly" {
			continue
		}
		add = append(add, subscription.Item{Handle: it.handle, Node: it.node, Sampling: it.sampling, Queue: it.queue, Filter: it.filter})
		which = append(which, it)
	}
	created, err := subscription.AddItems(ctx, l.session, s.revised.ID, add)
	if errors.Is(err, ua.StatusBadSubscriptionIDInvalid) {
		return errGone
	}
	if err != nil {
		return err
	}
	for i, r := range created {
		if r.Status&0x80000000 != 0 {
			news = c.refuse(which[i], r.Status) || news
			continue
		}
		c.mu.Lock()
		which[i].refused, which[i].retries = 0, 0
		c.mu.Unlock()
	}
	if !news {
		return nil
	}
	return c.inbox.push(ctx, entry{sub: s, refused: true})
}

// refuse puts an item aside, and says whether its quality is another by that.
func (c *conn) refuse(it *item, status ua.StatusCode) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := it.refused == 0
	news = it.refused != status
	it.refused = status
	it.retry = time.Now().Add(min(firstRetry<<min(it.retries, 10), longestRetry))
	it.retries++
	if first {
		c.counters["refused_items"]++
		c.log.Warn("item refused by the server", "property", it.name, "node", it.address, "status", status.Error())
	}
	return news
}

// takeRefused notes which items the saved subscription is without.
func (c *conn) takeRefused(handles []uint32) {
	for _, h := range handles {
		if int(h) < len(c.settings.items) {
			c.refuse(c.settings.items[h], ua.StatusBadWaitingForInitialData)
		}
	}
}

// retryRefused asks again for items whose time has come.
func (c *conn) retryRefused(ctx context.Context, l *link, s *sub) error {
	c.mu.Lock()
	var again []*item
	for _, it := range c.settings.items {
		if it.refused != 0 && !time.Now().Before(it.retry) {
			again = append(again, it)
		}
	}
	c.mu.Unlock()
	if len(again) == 0 {
		return nil
	}
	return c.watchItems(ctx, l, s, again)
}

// degradedLocked is what is wrong with a device that is connected.
func (c *conn) degradedLocked() (reason, message string) {
	var names []string
	n := 0
	for _, it := range c.settings.items {
		if it.refused == 0 {
			continue
		}
		if n++; len(names) < 5 {
			names = append(names, fmt.Sprintf("%s (%s): %v", it.name, it.address, it.refused))
		}
	}
	if n == 0 {
		return "", ""
	}
	return "ItemsRefused", limit(fmt.Sprintf("the server does not watch %d of %d properties: %s", n, len(c.settings.items), strings.Join(names, "; ")))
}

// resolve gives items the ids and types of this session's server.
func (c *conn) resolve(ctx context.Context, l *link) error {
	c.mu.Lock()
	for _, it := range c.settings.items {
		it.node, _ = it.at.in(l.namespaces)
	}
	c.mu.Unlock()
	var attributes []session.Attribute
	var which []*item
	for _, it := range c.settings.items {
		if it.node != nil {
			attributes = append(attributes, session.Attribute{Node: it.node, ID: ua.AttributeIDDataType}, session.Attribute{Node: it.node, ID: ua.AttributeIDValueRank})
			which = append(which, it)
		}
	}
	results, err := l.session.Read(ctx, attributes)
	if err != nil {
		return fmt.Errorf("types of nodes: %w", err)
	}
	var needed []*ua.NodeID
	c.mu.Lock()
	for i, it := range which {
		it.dataType, it.rank = nil, -2
		if v := results[2*i].Value; v != nil {
			it.dataType, _ = v.Value().(*ua.NodeID)
		}
		if v := results[2*i+1].Value; v != nil {
			if rank, ok := v.Value().(int32); ok {
				it.rank = rank
			}
		}
		if it.dataType != nil {
			needed = append(needed, it.dataType)
		}
	}
	c.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.types.Load(ctx, l.session, needed)
}
