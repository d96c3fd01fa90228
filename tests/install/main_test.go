package install_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/skerry-io/skerry/manifests/release/oci"
	"github.com/skerry-io/skerry/tests/lab"
)

const (
	patience = 2 * time.Minute
	// image is what init is told, and imported into the node: there is no registry.
	image = "skerry.io/lab/cloudproxy:e2e"
)

// The lab has a cluster, and a machine that is a node of it.
var (
	theLab *lab.Lab
	node   *lab.Edge
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("SKERRY_E2E") == "" {
		fmt.Println("SKIP: the tests of the installation need root and minutes; \"make e2e\" (SKERRY_E2E=1) runs them")
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background() //nolint:forbidigo // TestMain makes the first context
	demo, err := filepath.Abs("../../.demo")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	slot, err := lab.Slot()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	theLab, err = lab.New(lab.Config{
		Dir: filepath.Join(demo, "install"), BinDir: filepath.Join(demo, "bin"),
		Name: fmt.Sprintf("inst%d", slot), PortBase: 18443 + 100*slot, Net: []int{1, 4, 7, 14}[slot],
		VerifyKubelets: true, Log: slog.New(slog.NewTextHandler(os.Stdout, nil)),
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return theLab.Main(ctx, m, begin, down)
}

func down(ctx context.Context) error {
	var err error
	if node != nil {
		err = node.StopKubelet(ctx) // it would bring pods back
	}
	return errors.Join(err, theLab.Down(ctx))
}

func begin(ctx context.Context) error {
	if err := theLab.UpCluster(ctx); err != nil {
		return err
	}
	if _, err := theLab.Door(ctx); err != nil {
		return err
	}
	var err error
	if node, err = theLab.Edge("node1", 1); err != nil {
		return err
	}
	if err := node.StartMachine(ctx, "A"); err != nil {
		return err
	}
	if err := importProxy(ctx); err != nil {
		return err
	}
	return node.StartKubelet(ctx)
}

// importProxy builds the proxy's image as a release does.
func importProxy(ctx context.Context) error {
	program, err := os.ReadFile(theLab.Bin("cloudproxy"))
	if err != nil {
		return err
	}
	file := theLab.Path("images", "cloudproxy.tar")
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	err = oci.Write(out, oci.Image{Ref: image, Name: "cloudproxy", Programs: []oci.Program{
		{Platform: oci.Platform{OS: "linux", Arch: runtime.GOARCH}, Data: program},
	}})
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	_, err = node.Ctr(ctx, "images", "import", file)
	return err
}
