package uplinks_test

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cloudNS, edgeNS = "sku-cloud", "sku-edge"
	// cloudAddr is behind both links; link i is 10.213.i.0/24, with the cloud as .1 and
	// the edge as .2.
	cloudAddr = "10.213.9.1"
	// dirVariable tells the process in the edge's namespace where the links' sockets are.
	dirVariable = "SKERRY_UPLINKS_DIR"
)

// TestMain makes the network and runs the tests in a process in the edge's namespace.
func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case os.Getenv("SKERRY_E2E") == "":
		fmt.Println("SKIP: the tests of uplinks need root; SKERRY_E2E=1 runs them")
	case os.Getenv(dirVariable) != "":
		os.Exit(m.Run())
	default:
		os.Exit(outside())
	}
}

// outside makes the network, runs the tests inside it and takes it down.
func outside() int {
	dir, err := os.MkdirTemp("", "sku")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	takeDown() // what a killed run has left
	defer takeDown()
	stop, err := setUp(dir)
	defer stop()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", edgeNS, os.Args[0]}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), dirVariable+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func takeDown() {
	for _, ns := range []string{cloudNS, edgeNS} {
		if _, err := os.Stat("/run/netns/" + ns); err == nil {
			if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
				fmt.Printf("%s: %v\n", out, err)
			}
		}
	}
}

// setUp makes both namespaces and the links; stop ends the links.
func setUp(dir string) (stop func(), err error) {
	var links []*exec.Cmd
	stop = func() {
		for _, c := range links {
			c.Process.Kill()
			c.Wait()
		}
	}
	emulator := filepath.Join(dir, "linkemu")
	lines := []string{
		"go build -o " + emulator + " github.com/skerry-io/skerry/bench/linkemu",
		"ip netns add " + cloudNS,
		"ip netns add " + edgeNS,
		"ip -n sku-cloud link set lo up",
		"ip -n sku-edge link set lo up",
		"ip -n sku-cloud addr add " + cloudAddr + "/32 dev lo",
		// What most distributions set: with strict checks the answers of the cloud would
		// be dropped on every device but the one with the best route.
		"ip netns exec sku-edge sysctl -qw net.ipv4.conf.all.rp_filter=2",
	}
	for i := range 2 {
		lines = append(
			lines,
			fmt.Sprintf("ip -n sku-cloud tuntap add mode tun name sku%dc", i),
			fmt.Sprintf("ip -n sku-cloud addr add 10.213.%d.1/24 dev sku%dc", i, i),
			fmt.Sprintf("ip -n sku-cloud link set sku%dc up", i),
			fmt.Sprintf("ip -n sku-edge tuntap add mode tun name sku%d", i),
		)
	}
	for _, line := range lines {
		if err := run(line); err != nil {
			return stop, err
		}
	}
	for i := range 2 {
		c := exec.Command(
			emulator, "-a", fmt.Sprintf("sku%dc@%s", i, cloudNS), "-b", fmt.Sprintf("sku%d@%s", i, edgeNS),
			"-ctl", filepath.Join(dir, fmt.Sprintf("%d.sock", i)),
		)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			return stop, err
		}
		links = append(links, c)
		for deadline := time.Now().Add(10 * time.Second); ; {
			if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%d.sock", i))); err == nil {
				break
			}
			if time.Now().After(deadline) {
				return stop, errors.New("the link does not start")
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	return stop, nil
}

func run(line string) error {
	f := strings.Fields(line)
	if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}

// must runs commands in the edge's namespace.
func must(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if err := run(line); err != nil {
			t.Fatal(err)
		}
	}
}

// setLink says words to an uplink's emulator.
func setLink(t *testing.T, i int, words string) {
	t.Helper()
	dir := os.Getenv(dirVariable)
	must(t, fmt.Sprintf("%s/linkemu ctl %s/%d.sock %s", dir, dir, i, words))
}

// restore gives both uplinks their addresses, default routes and speed.
func restore(t *testing.T) {
	t.Helper()
	for i := range 2 {
		setLink(t, i, fmt.Sprintf("set mbit=20 queue=250000 delay=%dms outage=0 udpblock=0", 20+20*i))
		dev := fmt.Sprintf("sku%d", i)
		must(t,
			"ip addr flush dev "+dev,
			fmt.Sprintf("ip addr add 10.213.%d.2/24 dev %s", i, dev),
			"ip link set "+dev+" up",
			fmt.Sprintf("ip route replace default via 10.213.%d.1 dev %s metric %d", i, dev, 100*(i+1)),
		)
	}
}

// inCloud calls f on a thread in the cloud's namespace, which then ends.
func inCloud(t *testing.T, f func() error) {
	t.Helper()
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime throws the thread away
		ns, err := os.Open("/run/netns/" + cloudNS)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
}

// inUplink reports whether addr is of an uplink's network.
func inUplink(addr net.Addr, i int) bool {
	return addr != nil && strings.HasPrefix(addr.String(), fmt.Sprintf("10.213.%d.", i))
}
