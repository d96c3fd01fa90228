package store

// NextKeyed is Next for the keyed lane alone. That lane has one entry a key, so
// it is short however long the other one has grown, and is looked through whole.
func (o *Outbox) NextKeyed(after uint64) (Message, bool, error) {
	for {
		var first uint64
		var bad error
		err := o.store.scan([]byte{kindIndex}, func(_, v []byte) bool {
			var seq uint64
			if seq, bad = parseUint(v); seq > after && (first == 0 || seq < first) && !o.isTrimmed(seq) {
				first = seq
			}
			return bad == nil
		})
		if err == nil {
			err = bad
		}
		if err != nil || first == 0 {
			return Message{}, false, o.store.seen(err)
		}
		// What is not synced is not given, and nothing behind it is synced then.
		m, ok, err := o.Next(first - 1)
		if err != nil || !ok {
			return Message{}, false, err
		}
		if m.Seq == first {
			return m, true, nil
		}
		// It was replaced, or trimmed, between the two reads.
	}
}
