package edgeagent

import (
	"cmp"
	"context"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/images"
	"github.com/skerry-io/skerry/edgeagent/logrotate"
	"github.com/skerry-io/skerry/edgeagent/pods"
	"github.com/skerry-io/skerry/edgeagent/report"
)

// housekeeping is what keeps the disk from filling up, and fills it with images
// that no registry has to give.
type housekeeping struct {
	logs      *logrotate.Rotator
	collector *images.Collector
	folder    *images.Folder
}

func (a *Agent) housekeeping(client *cri.Client, runtime string, mgr *pods.Manager, rep *report.Reporter) (*housekeeping, error) {
	maxSize, err := a.cfg.LogBytes()
	if err != nil {
		return nil, err
	}
	h := &housekeeping{}
	h.logs, err = logrotate.New(logrotate.Config{
		Logs: mgr.Logs, Reopen: client.ReopenLog, MaxSize: maxSize, MaxFiles: a.cfg.ContainerLogMaxFiles, Log: a.log,
	})
	if err != nil {
		return nil, err
	}
	h.folder, err = images.NewFolder(images.FolderConfig{
		Dir:    cmp.Or(a.cfg.ImageDir, filepath.Join(a.cfg.StateDir, "images")),
		Record: filepath.Join(a.cfg.StateDir, "imported-images.json"),
		Images: client.ListImages, Import: images.Importer{Runtime: runtime, Socket: a.cfg.CRISocket}.Import,
		Changed: mgr.ImagesChanged, Log: a.log,
	})
	if err != nil {
		return nil, err
	}
	h.collector, err = images.NewCollector(images.CollectorConfig{
		Runtime: client,
		Wanted: func() ([]string, bool) {
			wanted, known := mgr.Images()
			return append(wanted, h.folder.Names()...), known
		},
		Event:         rep.NodeEvent,
		HighThreshold: a.cfg.ImageGCHighThresholdPercent, LowThreshold: a.cfg.ImageGCLowThresholdPercent,
		MinAge: a.cfg.ImageMinimumGCAge.Duration, MaxAge: a.cfg.ImageMaximumGCAge.Duration,
		Log: a.log,
	})
	return h, err
}

// run runs all of it until ctx ends.
func (h *housekeeping) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.logs.Run(ctx) })
	g.Go(func() error { return h.collector.Run(ctx) })
	g.Go(func() error { return h.folder.Run(ctx) })
	return g.Wait()
}
