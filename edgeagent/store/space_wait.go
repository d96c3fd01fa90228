package store

import "time"

// untilRoom runs op until it does not find the disk full. Where it is to fail, it
// does so. An operation of Pebble's never fails: Pebble could not go on, and would
// end the process. Nor does it when the store is closed, which may happen in a
// process that lives on: Close does not wait for it.
func (p *space) untilRoom(op func() error) error {
	err := op()
	if isFull(err) && p.giveUpReserve() {
		err = op()
	}
	if !isFull(err) || !p.beginWait() {
		return err
	}
	defer p.endWait()
	for isFull(err) {
		<-time.After(spaceRetry)
		p.giveUpReserve()
		err = op()
	}
	return err
}

// beginWait tells whether operations wait, and that one does.
func (p *space) beginWait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.patient {
		return false
	}
	if p.waiting++; p.waiting == 1 {
		close(p.waits)
	}
	p.setFullLocked(true)
	p.lookLaterLocked()
	return true
}

func (p *space) endWait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting--; p.waiting == 0 {
		p.waits = make(chan struct{})
	}
}

// stuck is closed while an operation waits for room.
func (p *space) stuck() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waits
}

// unlessStuck receives from result, or gives up: when an operation waits for room
// and has not found it soon, since what waits may be another operation, or not for
// long; and when limit, which may be nil, has a value.
func unlessStuck[T any](p *space, result <-chan T, limit <-chan time.Time) (v T, ok bool) {
	select {
	case v = <-result:
		return v, true
	case <-limit:
		return v, false
	case <-p.stuck():
	}
	t := time.NewTimer(stuckGrace)
	defer t.Stop()
	select {
	case v = <-result:
		return v, true
	case <-limit:
	case <-t.C:
	}
	return v, false
}
