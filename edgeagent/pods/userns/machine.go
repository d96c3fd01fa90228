package userns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"
)

const (
	// owner is the user whose subordinate IDs are the pods'. It is the kubelet's: a
	// machine is told once, whatever runs its pods.
	owner = "kubelet"
	// program tells subordinate IDs, from /etc/subuid and /etc/subgid or wherever
	// nsswitch.conf says.
	program = "getsubids"
	// patience is for one whose answer comes from a directory of the network.
	patience = 10 * time.Second
)

// OfMachine is what this machine's administrator lets pods have, as a kubelet finds it:
// the subordinate IDs of the user kubelet, the same for users and groups. Without that
// user, or without the program getsubids (Debian: uidmap), it is every ID from 65536.
// What the program can't tell is an error: there may be what it did not say.
func OfMachine(ctx context.Context) (Span, error) {
	if _, err := user.Lookup(owner); err != nil {
		if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
			return everyone(), nil
		}
		return Span{}, fmt.Errorf("look for user %s: %w", owner, err)
	}
	path, err := exec.LookPath(program)
	if errors.Is(err, exec.ErrNotFound) {
		return everyone(), nil
	}
	if err != nil {
		return Span{}, fmt.Errorf("look for %s: %w", program, err)
	}
	return subordinate(ctx, path)
}

// everyone are all users but the first 65536, which are the machine's own.
func everyone() Span { return Span{First: Size, Count: 1<<32 - Size} }

// subordinate asks the program at path.
func subordinate(ctx context.Context, path string) (Span, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	uids, err := run(ctx, path, owner)
	if err != nil {
		return Span{}, err
	}
	gids, err := run(ctx, path, "-g", owner)
	if err != nil {
		return Span{}, err
	}
	if uids != gids {
		return Span{}, fmt.Errorf("user %s has subordinate users %q and groups %q: they must be the same", owner, strings.TrimSpace(uids), strings.TrimSpace(gids))
	}
	return parse(uids)
}

func run(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// parse reads what the program prints, of which there must be one line:
//
//	0: kubelet 65536 7208960
func parse(out string) (Span, error) {
	fields := strings.Fields(out)
	if len(fields) != 4 || strings.Count(strings.TrimSpace(out), "\n") > 0 {
		return Span{}, fmt.Errorf("%s says %q for user %s: not one range", program, strings.TrimSpace(out), owner)
	}
	first, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil {
		return Span{}, fmt.Errorf("%s says %q for user %s: %w", program, strings.TrimSpace(out), owner, err)
	}
	count, err := strconv.ParseUint(fields[3], 10, 32)
	if err != nil {
		return Span{}, fmt.Errorf("%s says %q for user %s: %w", program, strings.TrimSpace(out), owner, err)
	}
	return Span{First: uint32(first), Count: uint32(count)}, nil
}

// check says what is wrong with a span. Users from 0 are the machine's.
func (s Span) check() error {
	if s.First < Size || s.First%Size != 0 || s.Count < Size || s.Count%Size != 0 || uint64(s.First)+uint64(s.Count) > 1<<32 {
		return fmt.Errorf("the subordinate IDs of user %s are %d from %d: both must be multiples of %d, and greater than 0", owner, s.Count, s.First, Size)
	}
	return nil
}
