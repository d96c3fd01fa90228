package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tun is an open TUN device: one IP packet a read or write.
type tun struct {
	name string
	fd   int
}

// openTUN opens, and creates where it is missing, the device of a spec
// NAME[@NETNS]; NETNS is a name below /run/netns or a path.
func openTUN(spec string) (*tun, error) {
	name, ns, inNS := strings.Cut(spec, "@")
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("device %q: a name has 1 to %d characters", spec, unix.IFNAMSIZ-1)
	}
	var fd int
	open := func() (err error) { fd, err = attach(name); return err }
	var err error
	if inNS {
		err = inNetns(ns, open)
	} else {
		err = open()
	}
	if err != nil {
		return nil, fmt.Errorf("open TUN device %s: %w", spec, err)
	}
	return &tun{name: spec, fd: fd}, nil
}

func attach(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// inNetns calls f on a thread of the network namespace. The thread ends with
// the goroutine when it can't be brought back.
func inNetns(ns string, f func() error) error {
	if !strings.Contains(ns, "/") {
		ns = filepath.Join("/run/netns", ns)
	}
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime throws the thread away
		target, err := os.Open(ns)
		if err != nil {
			errc <- err
			return
		}
		err = unix.Setns(int(target.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		errc <- errors.Join(err, target.Close())
	}()
	return <-errc
}

// read waits up to patience for a packet; 0 bytes mean that none came.
func (t *tun) read(b []byte, patience time.Duration) (int, error) {
	p := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, int(patience.Milliseconds()))
	if n == 0 || errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err = unix.Read(t.fd, b)
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return 0, nil
	case errors.Is(err, unix.EIO): // the interface is down: poll reports that without end
		nanosleep(5 * time.Millisecond)
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read %s: %w", t.name, err)
	}
	return n, nil
}

// write sends a packet; a device that is down loses it, as a cable would.
func (t *tun) write(b []byte) bool {
	_, err := unix.Write(t.fd, b)
	return err == nil
}

func (t *tun) close() { _ = unix.Close(t.fd) }

// nanosleep sleeps on this thread: a Go timer comes up to a millisecond late
// on a busy machine, this one does by some 60 microseconds.
func nanosleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}
