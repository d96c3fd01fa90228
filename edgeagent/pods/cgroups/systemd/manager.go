package systemd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// The names of systemd's D-Bus interface, org.freedesktop.systemd1(5).
const (
	busName    = "org.freedesktop.systemd1"
	busPath    = "/org/freedesktop/systemd1"
	ofManager  = busName + ".Manager"
	jobRemoved = "JobRemoved"

	unitExists = busName + ".UnitExists"
	noSuchUnit = busName + ".NoSuchUnit"

	jobDone = "done"
	replace = "replace" // a job takes the place of one that is queued
)

// patience bounds a connection: a systemd that does not answer must not hold up a
// pod's worker for ever.
const patience = 30 * time.Second

// auxUnit is (sa(sv)), of which nobody has used any yet.
type auxUnit struct {
	Name       string
	Properties []unitProperty
}

// manager is one connection to systemd.
type manager struct {
	conn *dbus.Conn
	jobs *jobs
}

// with calls f with a connection.
func (g *Groups) with(f func(*manager) error) error {
	j := &jobs{results: map[dbus.ObjectPath]string{}, news: make(chan struct{}, 1)}
	conn, err := dbus.Dial("unix:path="+g.socket, dbus.WithSignalHandler(j))
	if err != nil {
		return fmt.Errorf("connect to systemd, is it this machine's init? %w", err)
	}
	defer conn.Close() //nolint:errcheck // all answers have come
	late := time.AfterFunc(patience, func() { _ = conn.Close() })
	defer late.Stop()
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return fmt.Errorf("authenticate to systemd: %w", err)
	}
	// What systemd reads together with the end of the authentication, up to 256 bytes,
	// it looks at only when more comes, which may be never. So the first message is one
	// that nobody waits for, and with it the second is past that.
	conn.Object(busName, busPath).Go("org.freedesktop.DBus.Peer.Ping", dbus.FlagNoReplyExpected, nil)
	return f(&manager{conn: conn, jobs: j})
}

func (m *manager) call(method string, args ...any) *dbus.Call {
	return m.conn.Object(busName, busPath).Call(ofManager+"."+method, 0, args...)
}

// start makes a transient unit and starts it. It says false for one that is there.
func (m *manager) start(unit string, props []unitProperty) (bool, error) {
	var job dbus.ObjectPath
	err := m.call("StartTransientUnit", unit, replace, props, []auxUnit{}).Store(&job)
	if is(err, unitExists) {
		return false, nil
	}
	if err == nil {
		err = m.wait(job)
	}
	if err != nil {
		return false, fmt.Errorf("start unit %s: %w", unit, err)
	}
	return true, nil
}

// set changes a unit until it, or the machine, ends.
func (m *manager) set(unit string, props []unitProperty) error {
	if len(props) == 0 {
		return nil
	}
	if err := m.call("SetUnitProperties", unit, true, props).Err; err != nil {
		return fmt.Errorf("set properties of unit %s: %w", unit, err)
	}
	return nil
}

// stop stops a unit, so that systemd forgets it.
func (m *manager) stop(unit string) error {
	var job dbus.ObjectPath
	err := m.call("StopUnit", unit, replace).Store(&job)
	if is(err, noSuchUnit) {
		return nil
	}
	if err == nil {
		err = m.wait(job)
	}
	if err != nil {
		return fmt.Errorf("stop unit %s: %w", unit, err)
	}
	return nil
}

// wait waits until a job has ended well.
func (m *manager) wait(job dbus.ObjectPath) error {
	for {
		switch result, ended := m.jobs.result(job); {
		case !ended:
		case result == jobDone:
			return nil
		default:
			return fmt.Errorf("systemd's job ended as %s", result)
		}
		select {
		case <-m.jobs.news:
		case <-m.conn.Context().Done():
			return errors.New("systemd closed the connection before its job had ended")
		}
	}
}

func is(err error, name string) bool {
	var failed dbus.Error
	return errors.As(err, &failed) && failed.Name == name
}

// jobs hears how systemd's jobs have ended. What it hears may come before the answer
// that names the job.
type jobs struct {
	news chan struct{}

	mu      sync.Mutex // guards the following fields
	results map[dbus.ObjectPath]string
}

// DeliverSignal implements dbus.SignalHandler.
func (j *jobs) DeliverSignal(iface, name string, s *dbus.Signal) {
	var id uint32
	var job dbus.ObjectPath
	var unit, result string
	if iface != ofManager || name != jobRemoved || dbus.Store(s.Body, &id, &job, &unit, &result) != nil {
		return
	}
	j.mu.Lock()
	j.results[job] = result
	j.mu.Unlock()
	select {
	case j.news <- struct{}{}:
	default:
	}
}

func (j *jobs) result(job dbus.ObjectPath) (string, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.results[job]
	return r, ok
}
