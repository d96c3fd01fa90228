package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// The kubelet's defaults.
const (
	DefaultHighThreshold = 85
	DefaultLowThreshold  = 80
	DefaultMinAge        = 2 * time.Minute

	collectEvery = 5 * time.Minute
	// lookAgain is the pause while it is not known what is wanted.
	lookAgain = 10 * time.Second
)

// ErrNotKnown says that it is not known yet which images are wanted, so that none
// may be removed. Retrying helps.
var ErrNotKnown = errors.New("the pods of this node are not known yet")

// Runtime is what a Collector needs of the container runtime; *cri.Client is one.
type Runtime interface {
	ListImages(ctx context.Context) ([]cri.Image, error)
	ListContainers(ctx context.Context, labels map[string]string) ([]cri.Container, error)
	RemoveImage(ctx context.Context, ref string) error
	ImageFilesystems(ctx context.Context) ([]cri.FilesystemUsage, error)
	// SandboxImage is the image of all sandboxes, empty if the runtime pins it.
	SandboxImage(ctx context.Context) (string, error)
}

// CollectorConfig is what a Collector needs.
type CollectorConfig struct {
	// Runtime is required.
	Runtime Runtime
	// Wanted names the images that are not to be removed though no container has
	// them. It returns false while it can't tell. Required.
	Wanted func() ([]string, bool)
	// Event tells an event of the node. Nil tells nobody.
	Event func(kind, reason, message string)
	// HighThreshold is the percentage of the disk in use above which images are
	// removed, LowThreshold that to which. With 100 nothing is removed for want of room.
	HighThreshold, LowThreshold int
	// MinAge is how long an image stays after it has come, MaxAge how long it
	// may be unused; zero means for ever.
	MinAge, MaxAge time.Duration
	// Disk gives the size of the file system at a path, and what is free of it. Nil
	// asks the kernel.
	Disk func(path string) (capacity, available uint64, err error)
	// Log receives what an operator acts on. Nil discards it.
	Log *slog.Logger
}

// Collector removes images that nobody needs.
type Collector struct {
	cfg  CollectorConfig
	turn chan struct{} // holds one item while images are removed; guards what follows

	began  time.Time
	seen   map[string]*record // by image ID; nil before the first look
	failed bool               // the last collection has
}

// record is what is known of an image beyond the runtime's word. Of one that was
// there before the collector, first is zero.
type record struct{ first, used time.Time }

// candidate is an image that may be removed.
type candidate struct {
	record
	image cri.Image
}

// NewCollector returns a Collector.
func NewCollector(cfg CollectorConfig) (*Collector, error) {
	switch {
	case cfg.Runtime == nil || cfg.Wanted == nil:
		return nil, errors.New("images: Runtime and Wanted are required")
	case cfg.HighThreshold < 0 || cfg.HighThreshold > 100 || cfg.LowThreshold < 0 || cfg.LowThreshold > cfg.HighThreshold:
		return nil, fmt.Errorf("images: thresholds of %d %% and %d %% make no sense", cfg.HighThreshold, cfg.LowThreshold)
	}
	if cfg.Event == nil {
		cfg.Event = func(string, string, string) {}
	}
	if cfg.Disk == nil {
		cfg.Disk = disk
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Collector{cfg: cfg, turn: make(chan struct{}, 1)}, nil
}

// Run collects every five minutes until ctx ends. It looks even if nothing is to be
// removed: DeleteUnused goes by what was seen when.
func (c *Collector) Run(ctx context.Context) error {
	c.began = time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := c.collect(ctx)
		if errors.Is(err, ErrNotKnown) {
			timer.Reset(lookAgain)
			continue
		}
		timer.Reset(collectEvery)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && c.failed:
			c.cfg.Log.Error("images not collected", "error", err)
			c.cfg.Event(corev1.EventTypeWarning, "ImageGCFailed", err.Error())
		case err != nil:
			c.cfg.Log.Info("images not collected, trying again", "error", err)
		}
		c.failed = err != nil
	}
}

// DeleteUnused removes every image that is not used, wanted or pinned, whatever
// the disk has, but for those that have come less than MinAge ago.
func (c *Collector) DeleteUnused(ctx context.Context) error {
	return c.alone(ctx, func() error {
		now := time.Now()
		unused, err := c.unused(ctx, now)
		if err != nil {
			return err
		}
		_, err = c.free(ctx, unused, math.MaxInt64, now)
		return err
	})
}

func (c *Collector) collect(ctx context.Context) error {
	return c.alone(ctx, func() error {
		now := time.Now()
		unused, err := c.unused(ctx, now)
		if err == nil {
			unused, err = c.freeOld(ctx, unused, now)
		}
		if err != nil || c.cfg.HighThreshold == 100 {
			return err
		}
		return c.freeForRoom(ctx, unused, now)
	})
}

// alone does something that no other may do at the same time.
func (c *Collector) alone(ctx context.Context, do func() error) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unused lists the images that may be removed, the least recently used first.
func (c *Collector) unused(ctx context.Context, now time.Time) ([]candidate, error) {
	list, err := c.cfg.Runtime.ListImages(ctx)
	if err != nil {
		return nil, err
	}
	used, known, err := c.used(ctx)
	if err != nil {
		return nil, err
	}
	var out []candidate
	there := make(map[string]bool, len(list))
	first := now
	if c.seen == nil {
		c.seen, first = map[string]*record{}, time.Time{}
	}
	for _, image := range list {
		there[image.ID] = true
		r := c.seen[image.ID]
		if r == nil {
			r = &record{first: first}
			c.seen[image.ID] = r
		}
		switch {
		case !known || used.has(image):
			r.used = now
		case !image.Pinned:
			out = append(out, candidate{*r, image})
		}
	}
	for id := range c.seen {
		if !there[id] {
			delete(c.seen, id)
		}
	}
	if !known {
		return nil, ErrNotKnown
	}
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(a.used.Compare(b.used), a.first.Compare(b.first), cmp.Compare(a.image.ID, b.image.ID))
	})
	return out, nil
}

// names is a set of what images are called.
type names map[string]bool

func (n names) add(name string) {
	if name == "" {
		return
	}
	n[name] = true
	full, err := ParseName(name)
	if err != nil {
		return
	}
	n[full.String()] = true
	if full.Digest != "" {
		full.Tag = "" // runtimes tell an image's digests without tags
		n[full.String()] = true
	}
}

func (n names) has(image cri.Image) bool {
	return n[image.ID] || slices.ContainsFunc(image.Tags, func(s string) bool { return n[s] }) ||
		slices.ContainsFunc(image.Digests, func(s string) bool { return n[s] })
}

// used names what containers have, running or not, what is wanted, and what the
// runtime needs for every pod.
func (c *Collector) used(ctx context.Context) (out names, known bool, err error) {
	// Before the containers: a pod that comes in between has its image wanted.
	wanted, known := c.cfg.Wanted()
	containers, err := c.cfg.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return nil, false, err
	}
	pause, err := c.cfg.Runtime.SandboxImage(ctx)
	if err != nil {
		return nil, false, err
	}
	out = names{}
	out.add(pause)
	for _, name := range wanted {
		out.add(name)
	}
	for i := range containers {
		out.add(containers[i].Image)
		out.add(containers[i].ImageRef)
		out.add(containers[i].ImageID)
	}
	return out, known, nil
}

// freeOld removes what has not been used for MaxAge, and returns the rest. When
// the agent began it did not know since when.
func (c *Collector) freeOld(ctx context.Context, unused []candidate, now time.Time) ([]candidate, error) {
	if c.cfg.MaxAge == 0 || now.Sub(c.began) <= c.cfg.MaxAge {
		return unused, nil
	}
	var left []candidate
	var errs []error
	for _, image := range unused {
		if now.Sub(image.used) <= c.cfg.MaxAge {
			left = append(left, image)
			continue
		}
		if err := c.remove(ctx, image, "age"); err != nil {
			left, errs = append(left, image), append(errs, err)
		}
	}
	if len(errs) > 0 {
		return left, fmt.Errorf("wanted to free images older than %v, encountered errors in image deletion: %w", c.cfg.MaxAge, errors.Join(errs...))
	}
	return left, nil
}

// freeForRoom removes images when the disk is fuller than the high threshold.
func (c *Collector) freeForRoom(ctx context.Context, unused []candidate, now time.Time) error {
	systems, err := c.cfg.Runtime.ImageFilesystems(ctx)
	if err != nil {
		return err
	}
	if len(systems) == 0 {
		return errors.New("the container runtime does not tell where it keeps images")
	}
	size, room, err := c.cfg.Disk(systems[0].Mountpoint)
	if err != nil {
		return err
	}
	if size == 0 {
		err := errors.New("invalid capacity 0 on image filesystem")
		c.cfg.Event(corev1.EventTypeWarning, "InvalidDiskCapacity", err.Error())
		return err
	}
	capacity, available := int64(min(size, math.MaxInt64/100)), int64(min(room, size, math.MaxInt64/100))
	usage := 100 - int(available*100/capacity)
	if usage < c.cfg.HighThreshold {
		return nil
	}
	want := capacity*int64(100-c.cfg.LowThreshold)/100 - available
	c.cfg.Log.Info("disk of images is over its threshold", "usage_percent", usage, "threshold_percent", c.cfg.HighThreshold, "bytes_to_free", want)
	freed, err := c.free(ctx, unused, want, now)
	if err != nil {
		return err
	}
	if freed < want {
		message := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). "+
			"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
			"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.", usage, formatSize(capacity), freed)
		c.cfg.Event(corev1.EventTypeWarning, "FreeDiskSpaceFailed", message)
		return errors.New(message)
	}
	return nil
}

// free removes images in their order until enough bytes are free.
func (c *Collector) free(ctx context.Context, unused []candidate, want int64, now time.Time) (freed int64, err error) {
	var errs []error
	for _, image := range unused {
		if now.Sub(image.first) < c.cfg.MinAge {
			continue // it may have been pulled for a container that is about to be made
		}
		if err := c.remove(ctx, image, "space"); err != nil {
			errs = append(errs, err)
			continue
		}
		if freed += int64(min(image.image.SizeBytes, math.MaxInt64/2)); freed >= want {
			break
		}
	}
	if len(errs) > 0 {
		return freed, fmt.Errorf("wanted to free %d bytes, but freed %d bytes space with errors in image deletion: %w", want, freed, errors.Join(errs...))
	}
	return freed, nil
}

func (c *Collector) remove(ctx context.Context, image candidate, why string) error {
	if err := c.cfg.Runtime.RemoveImage(ctx, image.image.ID); err != nil {
		return err
	}
	delete(c.seen, image.image.ID)
	c.cfg.Log.Info("image removed", "image", image.image.ID, "tags", image.image.Tags, "bytes", image.image.SizeBytes, "why", why)
	return nil
}

func disk(path string) (capacity, available uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("look at the file system of %s: %w", path, err)
	}
	block := uint64(s.Bsize) //nolint:gosec // its type is another on other machines
	return s.Blocks * block, s.Bavail * block, nil
}

// formatSize is a size for people, as the kubelet writes it.
func formatSize(bytes int64) string {
	size, units := float64(bytes), []string{"KiB", "MiB", "GiB", "TiB"}
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	for i, unit := range units {
		if size /= 1024; size < 1024 || i == len(units)-1 {
			return fmt.Sprintf("%.1f %s", size, unit)
		}
	}
	return ""
}
