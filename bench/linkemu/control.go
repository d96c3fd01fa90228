package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// errQuit ends the emulator at somebody's request.
var errQuit = errors.New("quit")

// controlServer answers words on a unix socket: a line in, a line out.
type controlServer struct {
	link *link
	ln   net.Listener
}

// listenControl takes over the path of the socket: a file left by a killed
// process is removed, one that answers is not.
func listenControl(ctx context.Context, path string, l *link) (*controlServer, error) {
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("control socket %s: another emulator answers there", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &controlServer{link: l, ln: ln}, nil
}

// run serves until ctx ends or a client says quit.
func (s *controlServer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := s.ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		wg.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			defer func() { _ = c.Close() }()
			if err := s.talk(c); errors.Is(err, errQuit) {
				cancel()
			}
		})
	}
}

// talk answers the lines of one client.
func (s *controlServer) talk(c io.ReadWriter) error {
	sc := bufio.NewScanner(c)
	for sc.Scan() {
		words := splitWords(sc.Text())
		if len(words) == 0 {
			continue
		}
		answer, err := s.do(words)
		if err != nil && !errors.Is(err, errQuit) {
			answer = "error: " + err.Error()
		}
		if _, werr := fmt.Fprintln(c, answer); werr != nil || err != nil && errors.Is(err, errQuit) {
			return errors.Join(err, werr)
		}
	}
	return sc.Err()
}

// do carries out one command.
func (s *controlServer) do(words []string) (string, error) {
	args := words[1:]
	switch words[0] {
	case "set":
		return "ok", s.set(args, s.link.ab, s.link.ba)
	case "seta": // what end a sends
		return "ok", s.set(args, s.link.ab)
	case "setb":
		return "ok", s.set(args, s.link.ba)
	case "profile":
		if len(args) != 1 {
			return "", fmt.Errorf("profile wants one name of %s", profileNames())
		}
		p, err := lookupProfile(args[0])
		if err != nil {
			return "", err
		}
		s.link.ab.set(p)
		s.link.ba.set(p)
		return "ok", nil
	case "nat":
		return "ok", s.rebind(args)
	case "stats":
		return s.link.ab.stats() + "; " + s.link.ba.stats(), nil
	case "quit":
		return "ok", errQuit
	}
	return "", fmt.Errorf("no word %q: there are set, seta, setb, profile, nat, stats, quit", words[0])
}

// set changes all directions or, when a word is wrong for one, none.
func (s *controlServer) set(args []string, dirs ...*direction) error {
	if len(args) == 0 {
		return errors.New("set wants key=value")
	}
	next := make([]settings, len(dirs))
	for i, d := range dirs {
		var err error
		if next[i], err = d.settings().with(args); err != nil {
			return err
		}
	}
	for i, d := range dirs {
		d.set(next[i])
	}
	return nil
}

func (s *controlServer) rebind(args []string) error {
	if len(args) != 1 {
		return errors.New("nat wants one number")
	}
	n, err := strconv.ParseUint(args[0], 10, 16)
	if err != nil {
		return fmt.Errorf("nat %s: want an offset from 0 (off) to 65535", args[0])
	}
	s.link.rebind(uint16(n))
	return nil
}

// control is the client: it sends the words behind the socket's path.
func control(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) < 2 {
		return errors.New("want linkemu ctl SOCKET WORD")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", args[0])
	if err != nil {
		return fmt.Errorf("no emulator answers: %w", err)
	}
	defer func() { _ = c.Close() }()
	if t, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(t); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(c, strings.Join(args[1:], " ")); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if text, bad := strings.CutPrefix(line, "error: "); bad {
		return errors.New(strings.TrimSpace(text))
	}
	fmt.Fprint(stdout, line)
	return nil
}
