package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// outboxChange is what one batch makes of the outbox. It counts when the batch is
// taken, and not at all when it is not.
type outboxChange struct {
	outbox  *Outbox
	batch   *pebble.Batch
	stats   OutboxStats
	oldest  time.Duration
	refused drops // that the batch writes
	lost    drops // that the batch drops
}

// change begins one. The caller has the store's turn.
func (o *Outbox) change() *outboxChange {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &outboxChange{outbox: o, batch: new(pebble.Batch), stats: o.stats, oldest: o.oldest}
}

// take makes c what the outbox is.
func (o *Outbox) take(c *outboxChange) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stats, o.oldest = c.stats, c.oldest
	o.drops = o.drops.with(c.refused).with(c.lost)
	o.refused = o.refused.without(c.refused) // more may have come
}

// writeFacts adds to the batch the clock, and the counters that have changed.
func (c *outboxChange) writeFacts() {
	o := c.outbox
	o.mu.Lock()
	c.refused = o.refused.with(drops{})
	all := o.drops
	o.mu.Unlock()
	if len(c.refused.list)+len(c.lost.list) > 0 {
		all.with(c.refused).with(c.lost).write(c.batch)
	}
	o.clock.write(c.batch)
}

func (c *outboxChange) add(lane byte, m Message) {
	v := encodeMessage(lane, uint64(c.outbox.clock.now()/time.Second), m)
	set(c.batch, outboxKey(m.Seq), v)
	c.outbox.count(&c.stats, v, 1)
}

// remove deletes the entry that a value of the index points to.
func (c *outboxChange) remove(index []byte) error {
	seq, err := parseUint(index)
	if err != nil {
		return c.outbox.store.seen(err)
	}
	v, err := c.outbox.store.get(outboxKey(seq))
	if errors.Is(err, ErrNotFound) {
		err = c.outbox.store.seen(fmt.Errorf("%w: index of the outbox points to seq %d", ErrCorrupt, seq))
	}
	if err != nil {
		return err
	}
	del(c.batch, outboxKey(seq))
	c.outbox.count(&c.stats, v, -1)
	return nil
}

// trim deletes the entry with this seq, if it is there.
func (c *outboxChange) trim(seq uint64) error {
	v, err := c.outbox.store.get(outboxKey(seq))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := decodeMessage(outboxKey(seq), v)
	if err != nil {
		return c.outbox.store.seen(err)
	}
	if v[0] == laneKeyed {
		// An entry that is there is the newest of its key: the index points to it.
		del(c.batch, indexKey(m.Subject, m.Key))
	}
	del(c.batch, outboxKey(seq))
	c.outbox.count(&c.stats, v, -1)
	return nil
}

// bound deletes the sequenced entries that are too old, and when there are too
// many bytes the oldest until an eighth of the lane is free, so that a full lane
// does not look for a victim on every append.
func (c *outboxChange) bound() error {
	o := c.outbox
	tooMuch, tooMuchBulk := c.stats.SequencedBytes > o.maxBytes, c.stats.BulkBytes > o.maxBulk
	now := o.clock.now()
	before := now - o.maxAge
	if !tooMuch && !tooMuchBulk && c.oldest >= before {
		return nil
	}
	oldest := now
	err := o.store.scan([]byte{kindOutbox}, func(k, v []byte) bool {
		if !sequenced(v) {
			return true
		}
		tooMuch = tooMuch && c.stats.SequencedBytes > o.maxBytes/8*7
		tooMuchBulk = tooMuchBulk && c.stats.BulkBytes > o.maxBulk/8*7
		at := o.clock.of(v)
		isBulk := o.isBulk(v)
		reason := DropBytes
		switch {
		case at < before:
			reason = DropAge
		case isBulk && tooMuchBulk:
			reason = DropBulk
		case isBulk || !tooMuch:
			oldest = min(oldest, at)
			return tooMuch || tooMuchBulk
		}
		c.lost.add(reason, 1, uint64(len(v)))
		del(c.batch, append([]byte(nil), k...))
		c.outbox.count(&c.stats, v, -1)
		return true
	})
	if err != nil {
		return err
	}
	c.oldest = oldest
	for _, d := range c.lost.list {
		o.store.log.Warn("outbox exceeds its bound, oldest events dropped", "reason", d.Reason, "dropped", d.Count)
	}
	return nil
}

// count adds (sign 1) or takes away (sign -1) one record.
func (o *Outbox) count(st *OutboxStats, v []byte, sign int) {
	st.Entries += sign
	switch {
	case !sequenced(v):
	case o.isBulk(v):
		st.BulkBytes += int64(sign * len(v))
	default:
		st.SequencedBytes += int64(sign * len(v))
	}
}

// isBulk says whether a record of the sequenced lane is of BulkSubject.
func (o *Outbox) isBulk(v []byte) bool {
	subject, ok := messageSubject(v)
	return ok && o.bulk != 0 && subject == o.bulk
}
