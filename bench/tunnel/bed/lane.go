package bed

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/bench/tunnel/agent"
)

// Addressless is how long Move leaves the edge without any address. A machine
// that goes from one network to another is that for longer.
const Addressless = 50 * time.Millisecond

// Lane is a cloud and an edge with a link between them.
type Lane struct {
	bed   *Bed
	n     int
	moved bool // to the second address
	nat   int
	emu   *exec.Cmd
}

func (l *Lane) cloud() string { return fmt.Sprintf("%sc%d", prefix, l.n) }
func (l *Lane) edge() string  { return fmt.Sprintf("%se%d", prefix, l.n) }

// The devices; skb is a part of their names, too.
func (l *Lane) cloudDevice() string { return fmt.Sprintf("skbc%d", l.n) }
func (l *Lane) edgeDevice() string  { return fmt.Sprintf("skbe%d", l.n) }

func (l *Lane) address(host int) string { return fmt.Sprintf("10.211.%d.%d", l.n, host) }

// CloudAddress is the server's.
func (l *Lane) CloudAddress() string { return l.address(1) }

// edgeAddress is the client's before a Move and after it.
func (l *Lane) edgeAddress(moved bool) string {
	if moved {
		return l.address(3)
	}
	return l.address(2)
}

func (l *Lane) socket() string { return filepath.Join(l.bed.cfg.Dir, fmt.Sprintf("link%d.sock", l.n)) }

// up makes the namespaces and starts the emulator. The devices are made before
// it, so that they have their addresses from the start.
func (l *Lane) up(ctx context.Context) error {
	for _, end := range []struct{ netns, device, address string }{
		{l.cloud(), l.cloudDevice(), l.CloudAddress()},
		{l.edge(), l.edgeDevice(), l.edgeAddress(false)},
	} {
		script := fmt.Sprintf(`link set lo up
tuntap add mode tun name %[1]s
addr add %[2]s/24 dev %[1]s
link set %[1]s mtu 1500 txqueuelen 1000 up
`, end.device, end.address)
		if _, err := output(ctx, "", "ip", "netns", "add", end.netns); err != nil {
			return err
		}
		if _, err := output(ctx, script, "ip", "netns", "exec", end.netns, "ip", "-batch", "-"); err != nil {
			return err
		}
	}
	//nolint:gosec // the program is a flag of this bench
	l.emu = exec.Command(l.bed.cfg.Linkemu, "-a", l.cloudDevice()+"@"+l.cloud(), "-b", l.edgeDevice()+"@"+l.edge(), "-ctl", l.socket())
	l.emu.Stdout, l.emu.Stderr = l.bed.log, l.bed.log
	// An emulator whose devices are gone lives on, and would answer for the next.
	l.emu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := l.emu.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := l.Link(ctx, "stats")
		if err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("lane %d: %w", l.n, err)
		}
	}
}

// down ends the emulator; the namespaces are the bed's.
func (l *Lane) down() error {
	if l.emu == nil || l.emu.Process == nil {
		return nil
	}
	err := l.emu.Process.Kill()
	_ = l.emu.Wait() // killed
	return err
}

// Link says words to the emulator, for instance "set outage=1".
func (l *Lane) Link(ctx context.Context, words string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", l.socket())
	if err != nil {
		return fmt.Errorf("no emulator answers: %w", err)
	}
	defer func() { _ = c.Close() }() // everything is said
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if _, err := fmt.Fprintln(c, words); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return fmt.Errorf("link: %s: %w", words, err)
	}
	if text, bad := strings.CutPrefix(line, "error: "); bad {
		return fmt.Errorf("link: %s: %s", words, strings.TrimSpace(text))
	}
	return nil
}

// Reset makes a link of a profile of it, whatever was done to it before.
func (l *Lane) Reset(ctx context.Context, profile string) error {
	l.nat = 0
	return errors.Join(l.Link(ctx, "profile "+profile), l.Link(ctx, "nat 0"))
}

// Rebind gives the edge's UDP other ports outside, as a NAT does that has
// forgotten it.
func (l *Lane) Rebind(ctx context.Context) error {
	l.nat += 1000
	return l.Link(ctx, fmt.Sprintf("nat %d", l.nat))
}

// Move gives the edge another address; between the two it has none for
// Addressless.
func (l *Lane) Move(ctx context.Context) error {
	old, fresh := l.edgeAddress(l.moved), l.edgeAddress(!l.moved)
	if _, err := output(ctx, "", "ip", "-n", l.edge(), "addr", "del", old+"/24", "dev", l.edgeDevice()); err != nil {
		return err
	}
	select {
	case <-time.After(Addressless):
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := output(ctx, "", "ip", "-n", l.edge(), "addr", "add", fresh+"/24", "dev", l.edgeDevice())
	l.moved = !l.moved
	return err
}

// Cloud starts an agent in the cloud.
func (l *Lane) Cloud(ctx context.Context) (*agent.Process, error) {
	return agent.Start(ctx, l.cloud(), l.bed.log)
}

// Edge starts an agent on the edge.
func (l *Lane) Edge(ctx context.Context) (*agent.Process, error) {
	return agent.Start(ctx, l.edge(), l.bed.log)
}

// output runs a command.
func output(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.String(), nil
}
