package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-io/skerry/manifests"
	"github.com/skerry-io/skerry/tests/lab"
)

// What all tests share: a cluster, a proxy, and one edge that no test may break.
var (
	theLab   *lab.Lab
	edge1    *lab.Edge
	lastEdge atomic.Int64 // number of the edge made last
)

const (
	// patience is for what takes seconds when all is well.
	patience = 2 * time.Minute
	// cleanupTime bounds what a test does after its end.
	cleanupTime = 2 * time.Minute
	// maxNet leaves room for the edges of the last slot, and that much for those of
	// the one before it.
	maxNet = 200
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("SKERRY_E2E") == "" {
		fmt.Println("SKIP: the end-to-end tests need root and minutes; \"make e2e\" (SKERRY_E2E=1) runs them")
		return
	}
	os.Exit(run(m))
}

// run brings the lab up, runs the tests and takes it down; logs stay.
func run(m *testing.M) int {
	ctx := context.Background() //nolint:forbidigo // TestMain makes the first context
	level := slog.LevelInfo
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	demo, err := filepath.Abs("../../.demo")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	yaml, err := manifests.Install(lab.Namespace)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	slot, err := lab.Slot()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	receiver := receiveSamples()
	defer receiver.Close()
	theLab, err = lab.New(lab.Config{
		Dir: filepath.Join(demo, "e2e"), BinDir: filepath.Join(demo, "bin"),
		Name: fmt.Sprintf("e2e%d", slot), PortBase: 17443 + 100*slot, Net: min(30+60*slot, maxNet),
		// All that kubectl does here proves the proxy's serving certificate, too.
		VerifyKubelets: true,
		ProxyArgs:      []string{"--samples-url", receiver.URL + "/write"},
		Manifests:      yaml, Log: slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return theLab.Main(ctx, m, begin, theLab.Down)
}

func begin(ctx context.Context) error {
	if err := theLab.Up(ctx); err != nil {
		return err
	}
	var err error
	if edge1, err = theLab.Edge("edge1", int(lastEdge.Add(1))); err != nil {
		return err
	}
	if err := edge1.Up(ctx, "A"); err != nil {
		return err
	}
	return edge1.WaitReady(ctx, patience)
}
