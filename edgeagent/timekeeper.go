package edgeagent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/edgeagent/store"
)

const (
	// metaTime is the time that is known otherwise than by this machine's clock, in ms
	// since 1970, and by how many ms that clock was ahead of it.
	metaTime = "known-time"
	// keepTimeEvery is how often the time is kept. It is a floor for the next start:
	// hours more or less change little.
	keepTimeEvery = 6 * time.Hour
	// keepTimeStep spares the flash when sessions come and go.
	keepTimeStep = 10 * time.Minute
	// learnTimeout bounds a look at the cloud's certificate.
	learnTimeout = 10 * time.Second
	// clockTolerance is how wrong this machine's clock may be without a word.
	clockTolerance = time.Minute
)

// timekeeper feeds the clock by which the cloud's certificate is checked, and
// keeps what it knows for the next start. certs.Clock has the rule. Only run writes:
// a session waits for no disk.
type timekeeper struct {
	clock *certs.Clock
	keys  *certs.KeyPairFile
	store timeStore
	log   *slog.Logger
	news  chan struct{} // of capacity 1: there is something to keep
	kept  keptTime      // what is in the store; run's
}

// keptTime is what outlives the agent.
type keptTime struct {
	known time.Time
	ahead time.Duration // of this machine's clock
}

func (k keptTime) marshal() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(k.known.UnixMilli()))
	return binary.BigEndian.AppendUint64(b, uint64(k.ahead.Milliseconds()))
}

// unmarshal reads also what agents wrote that kept the time alone.
func (k *keptTime) unmarshal(b []byte) error {
	if len(b) != 8 && len(b) != 16 {
		return fmt.Errorf("%d bytes are no time", len(b))
	}
	*k = keptTime{known: time.UnixMilli(int64(binary.BigEndian.Uint64(b)))}
	if len(b) == 16 {
		k.ahead = time.Duration(int64(binary.BigEndian.Uint64(b[8:]))) * time.Millisecond
	}
	return nil
}

// timeStore is the part of *store.Store that is needed here.
type timeStore interface {
	Meta(name string) ([]byte, error)
	SetMeta(name string, value []byte) error
}

// newTimekeeper gives the clock its floor: this edge's certificate has begun, and
// what was known when the agent last ran has passed.
func newTimekeeper(clock *certs.Clock, keys *certs.KeyPairFile, st timeStore, log *slog.Logger) *timekeeper {
	k := &timekeeper{clock: clock, keys: keys, store: st, log: log, news: make(chan struct{}, 1)}
	clock.NotBefore(keys.Current().Leaf.NotBefore)
	b, err := st.Meta(metaTime)
	if err == nil {
		err = k.kept.unmarshal(b)
	}
	switch {
	case err == nil:
		clock.Kept(k.sane(k.kept.known), k.kept.ahead)
	case !errors.Is(err, store.ErrNotFound):
		log.Warn("the time when this agent last ran is not known", "error", err)
	}
	known, ahead := clock.Known()
	switch now := time.Now(); {
	case now.Before(known):
		log.Warn("this machine's clock is behind; certificates are checked by the latest time that is known", "clock", now, "known", known)
	case ahead > 0:
		log.Warn("this machine's clock was ahead of the cloud's; certificates are checked by as much less until the cloud tells the time", "clock", now, "ahead", ahead)
	}
	return k
}

// sane bounds what the cloud tells by the end of this edge's certificate: going by
// a later time the cloud would have refused it. So a cloud whose clock was wrong
// for a moment can't lock edges out for long.
func (k *timekeeper) sane(t time.Time) time.Time {
	if end := k.keys.Current().Leaf.NotAfter; t.After(end) {
		return end
	}
	return t
}

// told takes the time of a new session's Welcome. It waits for nothing.
func (k *timekeeper) told(unixMilli uint64) {
	t := k.sane(time.UnixMilli(int64(unixMilli)))
	if off := time.Until(t); off.Abs() > clockTolerance {
		k.log.Warn("this machine's clock and the cloud's differ; certificates are checked by the cloud's", "behind_by", off.Round(time.Second))
	}
	k.clock.Told(t)
	k.tell()
}

// tell has run look what there is to keep.
func (k *timekeeper) tell() {
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// keep stores what is known unless what is stored is about the same.
func (k *timekeeper) keep() {
	var now keptTime
	now.known, now.ahead = k.clock.Known()
	if now.known.IsZero() || now.known.Sub(k.kept.known).Abs() < keepTimeStep && (now.ahead-k.kept.ahead).Abs() < keepTimeStep {
		return
	}
	if err := k.store.SetMeta(metaTime, now.marshal()); err != nil {
		k.log.Warn("the time is not kept for the next start", "error", err)
		return
	}
	k.kept = now
}

// learn looks, by TCP, at the certificate that was refused, and says whether it
// has changed what is taken for the time.
func (k *timekeeper) learn(ctx context.Context, server string, trust certs.ClientConfig) bool {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return false // the dial that was refused tells more
	}
	defer func() { _ = conn.Close() }()
	before := k.clock.Now()
	news, err := k.clock.Learn(ctx, conn, trust)
	if err != nil {
		k.log.Debug("the cloud's certificate does not tell the time", "error", err)
	}
	if news {
		k.tell()
		k.log.Warn("the cloud's certificate does not go with what was taken for the time, which is corrected by it: one of the clocks is wrong",
			"clock", time.Now(), "before", before, "corrected", k.clock.Now())
	}
	return news
}

// run keeps the time now and then, so that a boot without a clock begins near it,
// also where there was no cloud for long.
func (k *timekeeper) run(ctx context.Context) error {
	ticker := time.NewTicker(keepTimeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			k.keep()
		case <-k.news:
			k.keep()
		case <-ctx.Done():
			return nil
		}
	}
}
