package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// TestEdgeThatTakesNoAcks must not make the proxy hold them without bound.
func TestEdgeThatTakesNoAcks(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  string
	}{
		{"short keys", "k"},
		{"long keys", strings.Repeat("k", 64<<10)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := New(Config{Client: fake.NewClientset()})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				edge, cloud := net.Pipe()
				done := make(chan error, 1)
				go func() { done <- r.Serve(ctx, "e1", cloud) }()
				const limit = 64 << 20 // bytes of acks or keys
				var sent atomic.Int64
				go func() {
					f := wire.Append(nil, &wire.Report{Seq: 1 << 60, Subject: 99, Key: tt.key})
					for sent.Load() < limit/int64(len(tt.key)/100+10) {
						if _, err := edge.Write(f); err != nil {
							return
						}
						sent.Add(1)
					}
				}()
				synctest.Wait() // everybody waits for somebody
				if n := sent.Load(); n >= 10_000 {
					t.Errorf("%d reports were taken in without one ack going out", n)
				}
				cancel()
				<-done
				edge.Close()
			})
		})
	}
}

func TestVerdict(t *testing.T) {
	kind := schema.GroupKind{Kind: "Pod"}
	for _, tt := range []struct {
		result, level string
		err           error
		last          bool
	}{
		{"written", "", nil, true},
		{"gone", "INFO", fmt.Errorf("pod: %w", errGone), true},
		{"foreign", "WARN", fmt.Errorf("pod: %w", errForeign), true},
		{"refused", "WARN", apierrors.NewInvalid(kind, "p", nil), true},
		{"refused", "WARN", &badReportError{errors.New("nonsense")}, true},
		{"retried", "", apierrors.NewInternalError(errors.New("webhook")), false},
	} {
		t.Run(tt.result, func(t *testing.T) {
			var log bytes.Buffer
			reg := prometheus.NewRegistry()
			r, err := New(Config{Client: fake.NewClientset(), Registerer: reg, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if got := newLanes(r, "e1").verdict(wire.Report{Key: "k"}, tt.err); got != tt.last {
				t.Errorf("last %v, want %v", got, tt.last)
			}
			if level := "level=" + tt.level; tt.level != "" && !strings.Contains(log.String(), level) || tt.level == "" && log.Len() > 0 {
				t.Errorf("log %q, want level %q", log.String(), tt.level)
			}
			if n, err := testutil.GatherAndCount(reg, "skerry_report_reports_total"); err != nil || n != 7 {
				t.Errorf("%d metrics, %v; want 7", n, err)
			}
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range families[0].GetMetric() {
				want := 0.0
				if m.GetLabel()[0].GetValue() == tt.result {
					want = 1
				}
				if got := m.GetCounter().GetValue(); got != want {
					t.Errorf("%v = %v, want %v", m.GetLabel(), got, want)
				}
			}
		})
	}
}
