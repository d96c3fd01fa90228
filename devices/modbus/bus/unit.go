package bus

import (
	"time"

	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

const (
	// share is the part of the bus's time that a unit may waste: 1/32, so that a dead
	// one costs the others 3 %, within the 5 % that are promised.
	share = 32
	// burst is how much more it may waste at once, in timeouts: the second attempt
	// after a lost answer comes at once, the third must be earned.
	burst = 1
	// maxRest bounds how long a dead unit is left alone, unless its share asks for more.
	maxRest = time.Minute
	// minProbe is the shortest deadline of an attempt at a unit that has failed.
	minProbe = 100 * time.Millisecond
	// maxQueue bounds the calls that wait for one unit, in each priority.
	maxQueue = 1024
)

// unit is what the bus knows of one unit.
type unit struct {
	id       byte
	queue    [priorities][]*call
	inFlight int
	called   time.Time // last
	free     time.Time // when it wants to be asked again

	slowest time.Duration // answer lately, without the time on the wire; 0 unknown
	fails   int           // in a row
	cause   error         // of the last
	demoted bool
	timeout time.Duration // of the last failure
	// earned is when what the unit has wasted is paid for (a leaky bucket).
	earned time.Time

	// lost has a bit for each function whose answer is overdue and may still come.
	lost uint64
}

// answered notes an answer that took so long.
func (u *unit) answered(took time.Duration) {
	u.fails, u.demoted, u.cause = 0, false, nil
	u.slowest = max(took, u.slowest-u.slowest/64)
}

// wasted notes a failure that cost the bus so much time. A unit is demoted only
// where others share the bus: alone it takes nothing from anyone.
func (u *unit) wasted(now time.Time, cost, timeout time.Duration, shared bool, cause error) {
	u.timeout = timeout
	u.fails++
	u.cause = cause
	if u.earned.Before(now) {
		u.earned = now
	}
	pay := cost * share
	if n := u.fails - 3; n > 0 { // it seems to be gone for longer
		pay = max(pay, min(pay<<min(n, 8), maxRest))
	}
	u.earned = u.earned.Add(pay)
	u.demoted = shared && now.Before(u.rest())
}

// rest returns when the unit may be tried again.
func (u *unit) rest() time.Time {
	return u.earned.Add(-u.timeout * share * burst)
}

// deadline is how long to wait for an answer of the unit. One that has just failed and
// is known to be faster gets less time, so that finding out that it is dead is cheap;
// every eighth time all of it, since it may have become slow.
func (u *unit) deadline(timeout time.Duration) time.Duration {
	if u.fails%8 == 0 || u.slowest == 0 {
		return timeout
	}
	return min(timeout, max(minProbe, 4*u.slowest))
}

// forgive gives the unit a new start: it was the connection that failed.
func (u *unit) forgive() { u.earned, u.demoted = time.Time{}, false }

// fence returns a request whose answer can't be taken for a lost one, nil if the
// unit needs none before r.
func (u *unit) fence(r pdu.Request) pdu.Request {
	if u.lost&(1<<r.Function()) == 0 {
		return nil
	}
	for _, fn := range []pdu.Function{pdu.ReadHoldingRegisters, pdu.ReadInputRegisters, pdu.ReadCoils, pdu.ReadDiscreteInputs} {
		if u.lost&(1<<fn) == 0 {
			return read(fn, r.Address(), 1)
		}
	}
	// All are lost: another length, which exceptions do not have. It takes four lost
	// fences in a row to get here.
	n := 2 + u.fails%100
	return read(pdu.ReadHoldingRegisters, min(r.Address(), uint16(1<<16-n)), n)
}

// read is pdu.Read of arguments known to be good.
func read(fn pdu.Function, address uint16, count int) pdu.Request {
	r, err := pdu.Read(fn, address, count)
	if err != nil {
		panic(err) // a bug of this package
	}
	return r
}
