package pods

import (
	"cmp"
	"slices"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// The runtime tells times of the machine's clock, which may be wrong at boot and
// be set later, by hours or by years, either way. So no pause is counted from such
// a time, and no instance is newer than another because of one:
//
//   - What the worker waits for is counted from local times, which time.Now gives
//     with a reading of the clock that nobody sets.
//   - What is newer is told by the counts that the agent itself gives: attempts of
//     sandboxes, restarts of containers.

// localTime gives a time of the runtime as one that pauses can be counted from. It
// is never later than now, and not before after, when it is known not to have been;
// zero after means that nothing is known.
func localTime(wall, now, after time.Time) time.Time {
	if wall.IsZero() {
		return wall
	}
	t := now.Add(-max(now.Sub(wall), 0))
	if !after.IsZero() && t.Before(after) {
		return after
	}
	return t
}

// place gives a container's begin and end as local times. prev is the observation
// before, if there was one.
func (c *container) place(prev *observed, now time.Time) {
	var after time.Time
	known := prev.find(c.id)
	if prev != nil && (known == nil || known.state != cri.StateExited && known.state != cri.StateUnknown) {
		after = prev.at
	}
	if known != nil && !known.begun.IsZero() {
		c.begun = known.begun
	} else {
		c.begun = localTime(c.started, now, after)
	}
	c.ended = localTime(c.finished, now, after)
}

// begin is when it began, for what is counted from there.
func (c *container) begin() time.Time { return cmp.Or(c.begun, c.started) }

// end is when it ended, for what is counted from there.
func (c *container) end() time.Time { return cmp.Or(c.ended, c.finished) }

// sortSandboxes puts the newest first.
func sortSandboxes(list []cri.Sandbox) {
	slices.SortStableFunc(list, func(a, b cri.Sandbox) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.CreatedAt.Compare(a.CreatedAt))
	})
}

// sortContainers puts the newest first: those of the newest sandbox, and of these
// those with most restarts.
func sortContainers(list []container, sandboxes []cri.Sandbox) {
	age := make(map[string]int, len(sandboxes))
	for i := range sandboxes {
		age[sandboxes[i].ID] = i + 1
	}
	of := func(c *container) int {
		if n := age[c.sandboxID]; n > 0 {
			return n
		}
		return len(sandboxes) + 1 // its sandbox is gone
	}
	slices.SortStableFunc(list, func(a, b container) int {
		return cmp.Or(cmp.Compare(of(&a), of(&b)), cmp.Compare(b.restarts, a.restarts), b.created.Compare(a.created))
	})
}
