package subscription

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/codec"
)

// Requester sends requests in a session; session.Session does.
type Requester interface {
	Request(ctx context.Context, req ua.Request) (ua.Response, error)
}

// Receiver is a subscription, as the publisher sees it.
type Receiver interface {
	// ID is the server's number for it.
	ID() uint32
	// Receive takes a message; available are the numbers that the server still
	// has. It may block, which holds back the server.
	Receive(ctx context.Context, m *ua.NotificationMessage, available []uint32)
	// Patience is how long the server may be silent.
	Patience() time.Duration
}

const (
	fewest  = 2  // Publish requests in flight: one is answered while the other is under way
	most    = 10 // beyond, a server gets slower and not faster
	maxAcks = 1000
)

// Publisher keeps Publish requests in flight for all subscriptions of one session.
type Publisher struct {
	mu        sync.Mutex // guards the following fields
	receivers map[uint32]Receiver
	acks      []*ua.SubscriptionAcknowledgement
	target    int // requests in flight
	ceiling   int // what the server has taken, at most
	running   int
	changed   chan struct{} // closed and made anew when receivers change
}

// NewPublisher makes one for a session, without subscriptions.
func NewPublisher() *Publisher {
	return &Publisher{receivers: map[uint32]Receiver{}, target: fewest, ceiling: most, changed: make(chan struct{})}
}

// Add has messages of a subscription given to r.
func (p *Publisher) Add(r Receiver) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receivers[r.ID()] = r
	p.target = min(max(p.target, len(p.receivers)+1), p.ceiling)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Remove ends what Add began.
func (p *Publisher) Remove(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.receivers, id)
}

// Acknowledge tells the server with the next request that messages are stored.
func (p *Publisher) Acknowledge(id uint32, numbers ...uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range numbers {
		p.acks = append(p.acks, &ua.SubscriptionAcknowledgement{SubscriptionID: id, SequenceNumber: n})
	}
}

// InFlight is how many requests are kept in flight.
func (p *Publisher) InFlight() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(p.target, p.ceiling)
}

// Run works until ctx ends or the session fails, which is the error.
func (p *Publisher) Run(ctx context.Context, link Requester) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	defer workers.Wait()
	for {
		p.mu.Lock()
		want, changed := min(p.target, p.ceiling), p.changed
		if len(p.receivers) == 0 {
			want = 0
		}
		for ; p.running < want; p.running++ {
			workers.Go(func() {
				if err := p.work(ctx, link); err != nil {
					cancel(err)
				}
			})
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// surplus ends a worker when there are more than are wanted.
func (p *Publisher) surplus() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running > min(p.target, p.ceiling) || len(p.receivers) == 0 {
		p.running--
		return true
	}
	return false
}

func (p *Publisher) work(ctx context.Context, link Requester) error {
	stopped := func(err error) error {
		p.mu.Lock()
		p.running--
		p.mu.Unlock()
		return err
	}
	for !p.surplus() {
		acks, patience := p.take()
		once, cancel := context.WithTimeout(ctx, patience)
		v, err := link.Request(once, &ua.PublishRequest{SubscriptionAcknowledgements: acks})
		cancel()
		if err != nil {
			p.giveBack(acks)
			if err := p.refused(ctx, err); err != nil {
				return stopped(err)
			}
			continue
		}
		r, ok := v.(*ua.PublishResponse)
		if !ok || r.NotificationMessage == nil {
			return stopped(fmt.Errorf("publish: %T for an answer", v))
		}
		p.mu.Lock()
		receiver := p.receivers[r.SubscriptionID]
		if r.MoreNotifications && p.target < p.ceiling {
			p.target++
			close(p.changed)
			p.changed = make(chan struct{})
		}
		p.mu.Unlock()
		if receiver == nil {
			p.forget(r)
			continue
		}
		receiver.Receive(ctx, r.NotificationMessage, r.AvailableSequenceNumbers)
	}
	return nil
}

// forget acknowledges what nobody wants.
func (p *Publisher) forget(r *ua.PublishResponse) {
	if len(r.NotificationMessage.NotificationData) > 0 {
		p.Acknowledge(r.SubscriptionID, r.NotificationMessage.SequenceNumber)
	}
}

// take gives the acknowledgements that are due and how long an answer may take.
func (p *Publisher) take() ([]*ua.SubscriptionAcknowledgement, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.acks), maxAcks)
	acks := slices.Clone(p.acks[:n])
	p.acks = p.acks[n:]
	patience := time.Minute
	for _, r := range p.receivers {
		patience = max(patience, 2*r.Patience())
	}
	return acks, patience
}

func (p *Publisher) giveBack(acks []*ua.SubscriptionAcknowledgement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acks = append(acks, p.acks...)
}

// refused decides what an error means: nil to go on, or what ends the session.
func (p *Publisher) refused(ctx context.Context, err error) error {
	pause := func(d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, ua.StatusBadTooManyPublishRequests):
		p.mu.Lock()
		p.ceiling = max(1, min(p.ceiling, p.running-1))
		p.mu.Unlock()
		return pause(100 * time.Millisecond)
	case errors.Is(err, ua.StatusBadNoSubscription):
		return pause(time.Second)
	case errors.Is(err, codec.ErrMalformed):
		return nil // the message is missing now, and is asked for again
	case errors.Is(err, ua.StatusBadTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ua.StatusBadTooManyOperations),
		errors.Is(err, ua.StatusBadOutOfMemory), errors.Is(err, ua.StatusBadResourceUnavailable), errors.Is(err, ua.StatusBadInternalError):
		return pause(time.Second)
	}
	return err
}
