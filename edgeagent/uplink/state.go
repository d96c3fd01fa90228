package uplink

import "time"

// State is how the line to the cloud is.
type State struct {
	// Connected says whether there is a session; Since is when one came or went, or
	// when this agent began to look for one.
	Connected bool
	Since     time.Time
	// Err is why there is none, as far as it is known.
	Err error
}

// State tells how the line to the cloud is now.
func (u *Uplink) State() State {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := State{Connected: u.session != nil, Since: u.since}
	if !s.Connected {
		s.Err = u.lastErr
	}
	return s
}

// note keeps why the last attempt or session ended.
func (u *Uplink) note(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lastErr = err
}
