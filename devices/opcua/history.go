package opcua

import (
	"context"
	"slices"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/session"
	"github.com/skerry-io/skerry/devices/opcua/subscription"
)

const (
	historyValues = 1000    // of an item in one answer
	maxBackfill   = 1 << 20 // values of an item for one gap
	historyTries  = 3
)

// hole is a time of an item of which values may be missing.
type hole struct {
	it       *item
	from, to time.Time
	reason   string
}

// fill looks for holes before the values of a message, and fills them from the
// server's history, or tells them as gaps. Its error is ctx's.
func (c *conn) fill(b *batch, e entry) error {
	var holes []hole
	seen := map[*item]bool{}
	for _, n := range e.data {
		if n == nil || n.Value == nil || int(n.ClientHandle) >= len(c.settings.items) {
			continue
		}
		it := c.settings.items[n.ClientHandle]
		if seen[it] {
			continue
		}
		seen[it] = true
		at := n.Value.SourceTimestamp
		if at.IsZero() {
			at = n.Value.ServerTimestamp
		}
		dropped := n.Value.Status&overflow == overflow
		if (it.resync || dropped) && !it.last.IsZero() && at.After(it.last) {
			reason := "Outage"
			if dropped && !it.resync {
				reason = "QueueOverflow"
			}
			holes = append(holes, hole{it, it.last, at, reason})
		}
	}
	if len(holes) == 0 {
		return nil
	}
	found := map[*item][]*ua.DataValue{}
	if c.settings.backfill {
		var err error
		if found, err = c.backfill(b.ctx, holes); err != nil {
			return err
		}
	}
	// Before the message that is due: it is not stored yet.
	number := b.number
	b.number = beforeNumber(e.number)
	for _, h := range holes {
		values, ok := found[h.it]
		if !ok {
			b.gaps = append(b.gaps, devices.Gap{Property: h.it.name, From: h.from, To: h.to, Reason: h.reason})
			continue
		}
		for _, v := range values {
			resync := h.it.resync
			c.sample(b, h.it, v)
			h.it.resync = resync
			if b.bytes > mostBytes {
				if err := b.flush(); err != nil {
					return err
				}
			}
		}
		c.count("backfilled", uint64(len(values)))
	}
	b.number = number
	return nil
}

// backfill reads history, in which items without one are left out.
func (c *conn) backfill(ctx context.Context, holes []hole) (map[*item][]*ua.DataValue, error) {
	for range historyTries {
		l, err := c.awaitLink(ctx)
		if err != nil {
			return nil, err
		}
		found, err := c.history(ctx, l.session, holes)
		switch {
		case err == nil:
			return found, nil
		case ctx.Err() != nil:
			return nil, err
		case subscription.Refused(err):
			return nil, nil
		}
		c.log.Info("history not read", "error", err)
		if err := c.pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

type historyPart struct {
	h     hole
	point []byte
}

// history reads raw values strictly inside the holes.
func (c *conn) history(ctx context.Context, s *session.Session, holes []hole) (map[*item][]*ua.DataValue, error) {
	found, missing := map[*item][]*ua.DataValue{}, map[*item]bool{}
	for _, h := range holes {
		parts := []historyPart{{h: h}}
		for len(parts) > 0 {
			results, err := session.Batch(ctx, &s.Operations.History, session.MostHistory, parts, func(part []historyPart) ([]*ua.HistoryReadResult, error) {
				return c.readHistory(ctx, s, part)
			}, func(_ historyPart, err error) *ua.HistoryReadResult {
				return &ua.HistoryReadResult{StatusCode: session.Status(err)}
			})
			if err != nil {
				return nil, err
			}
			parts = c.takeHistory(parts, results, found, missing)
		}
	}
	for it := range missing {
		delete(found, it)
	}
	return found, nil
}

func (c *conn) readHistory(ctx context.Context, s *session.Session, parts []historyPart) ([]*ua.HistoryReadResult, error) {
	r, err := session.Do[*ua.HistoryReadResponse](ctx, s, c.historyRequest(parts))
	if err != nil {
		return nil, err
	}
	return r.Results, nil
}

func (c *conn) historyRequest(parts []historyPart) *ua.HistoryReadRequest {
	h := parts[0].h
	req := &ua.HistoryReadRequest{
		TimestampsToReturn: ua.TimestampsToReturnBoth,
		HistoryReadDetails: &ua.ExtensionObject{
			TypeID: ua.NewFourByteExpandedNodeID(0, id.ReadRawModifiedDetails_Encoding_DefaultBinary), EncodingMask: ua.ExtensionObjectBinary,
			Value: &ua.ReadRawModifiedDetails{StartTime: h.from, EndTime: h.to, NumValuesPerNode: historyValues},
		},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range parts {
		node := p.h.it.node
		if node == nil {
			node = ua.NewTwoByteNodeID(0) // the server knows no such node, and says so
		}
		req.NodesToRead = append(req.NodesToRead, &ua.HistoryReadValueID{NodeID: node, DataEncoding: &ua.QualifiedName{}, ContinuationPoint: p.point})
	}
	return req
}

func (c *conn) takeHistory(parts []historyPart, results []*ua.HistoryReadResult, found map[*item][]*ua.DataValue, missing map[*item]bool) (next []historyPart) {
	for i, r := range results {
		h := parts[i].h
		if r == nil || r.StatusCode&0x80000000 != 0 {
			missing[h.it] = true
			continue
		}
		if _, ok := found[h.it]; !ok {
			found[h.it] = nil
		}
		if r.HistoryData == nil {
			continue
		}
		data, ok := r.HistoryData.Value.(*ua.HistoryData)
		if !ok {
			continue
		}
		for _, v := range data.DataValues {
			if v != nil && v.SourceTimestamp.After(h.from) && v.SourceTimestamp.Before(h.to) {
				found[h.it] = append(found[h.it], v)
			}
		}
		if len(r.ContinuationPoint) > 0 && len(found[h.it]) < maxBackfill && len(data.DataValues) > 0 {
			next = append(next, historyPart{h, r.ContinuationPoint})
		}
		slices.SortStableFunc(found[h.it], func(a, b *ua.DataValue) int { return a.SourceTimestamp.Compare(b.SourceTimestamp) })
	}
	return next
}
