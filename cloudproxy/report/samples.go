package report

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/cloudproxy/samples"
	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// SampleSink takes what devices have told; samples.Sink is one.
type SampleSink interface {
	// Take returns nil when a frame of an edge is where it should be, and
	// samples.ErrRefused when it never will be.
	Take(ctx context.Context, node string, f devices.Frame) error
}

// takeSamples hands on a frame of one of the edge's own devices.
func (r *Receiver) takeSamples(ctx context.Context, node, key string, value []byte) error {
	if r.samples == nil {
		return errUnwanted
	}
	f, err := devices.ParseFrame(value)
	if err != nil {
		return &badReportError{err}
	}
	if key != wire.ObjectKey(wire.ResourceDevices, f.Namespace, f.Name) {
		return &badReportError{fmt.Errorf("samples of device %s/%s under another key", f.Namespace, f.Name)}
	}
	if of, uid, ok := r.device(f.Namespace, f.Name); !ok || of != node || string(uid) != f.UID {
		// The cache may be behind.
		if _, err := r.ownDevice(ctx, node, f.Namespace, f.Name, types.UID(f.UID)); err != nil {
			return err
		}
	}
	err = r.samples.Take(ctx, node, f)
	if errors.Is(err, samples.ErrRefused) {
		return &badReportError{err}
	}
	return err
}
