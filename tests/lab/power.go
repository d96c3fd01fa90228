package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// CutPower ends all of a machine as a power cut does: no process gets to end in
// peace, and of what it had only the disk is left. Its network is gone as well.
func (e *Edge) CutPower(ctx context.Context) error {
	err := errors.Join(
		// The agent first: it would see its pods die, which no power cut lets it.
		e.KillAgent(ctx),
		e.lab.kill(ctx, e.daemon("containerd")),
		e.clear(ctx),
		// What containerd keeps here is on a tmpfs elsewhere.
		os.RemoveAll(e.Path("containerd", "state")),
	)
	if err != nil {
		return fmt.Errorf("cut power of %s: %w", e.Name, err)
	}
	return nil
}
