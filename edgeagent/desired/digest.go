package desired

import (
	"errors"
	"io"

	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxHaveBytes is where a Have frame is cut: large enough that its header costs
// nothing, small enough to be built in memory without notice.
const maxHaveBytes = 32 << 10

// sendDigest says in short what the store holds, and gives the number of buckets.
func (c *Client) sendDigest(w io.Writer) (int, error) {
	count := 0
	if err := c.store.Versions("", func(store.Entry) bool { count++; return true }); err != nil {
		return 0, err
	}
	n := wire.BucketCount(count)
	d := wire.NewDigester(n)
	err := c.store.Versions("", func(e store.Entry) bool {
		if n > 0 {
			d.Add(e.Key, e.Version)
		}
		return true
	})
	if err != nil {
		return 0, err
	}
	return n, wire.Write(w, d.Digest())
}

// sendHave says what is in the buckets that the cloud asks for, of n. The store
// is what it was for the digest: changes come only after this.
func (c *Client) sendHave(w io.Writer, want *wire.Want, n int) error {
	asked := make([]bool, n)
	for _, i := range want.Buckets {
		if i < uint64(n) {
			asked[i] = true
		}
	}
	var have wire.Have
	size := 0
	var failed error
	err := c.store.Versions("", func(e store.Entry) bool {
		if n == 0 || !asked[wire.BucketOf(e.Key, n)] {
			return true
		}
		have.Entries = append(have.Entries, wire.Entry{Key: e.Key, Version: e.Version})
		if size += len(e.Key) + len(e.Version); size < maxHaveBytes {
			return true
		}
		failed = wire.Write(w, &have)
		have.Entries, size = have.Entries[:0], 0
		return failed == nil
	})
	if err := errors.Join(failed, err); err != nil {
		return err
	}
	have.Last = true
	return wire.Write(w, &have)
}
