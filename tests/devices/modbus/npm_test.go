package modbus

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	driver "github.com/skerry-io/skerry/devices/modbus"
)

// modbusSerial is the package whose server is the peer, pinned.
const modbusSerial = "modbus-serial@8.0.25"

// server answers as slave.c does, in JavaScript on modbus-serial.
const server = `
const { ServerTCP } = require("modbus-serial");
const holding = [], coils = [];
for (let i = 0; i < 1000; i++) { holding.push(i); coils.push(i % 2 === 1); }
const s = new ServerTCP({
  getHoldingRegister: (a) => holding[a],
  getInputRegister: (a) => a + 10000,
  getCoil: (a) => coils[a],
  getDiscreteInput: (a) => a % 2 === 1,
  setRegister: (a, v) => { holding[a] = v; },
  setCoil: (a, v) => { coils[a] = v; },
  readDeviceIdentification: () => ({ 0: "Others", 1: "JS", 2: "8", 0x97: "own" }),
}, { host: "127.0.0.1", port: Number(process.argv[2]), unitID: 1 });
s.on("initialized", () => console.log("ready"));
s.on("socketError", () => {});
process.stdin.on("end", () => process.exit(0)).resume();
`

// npmDir returns a folder with modbus-serial, installed once into the user's cache.
func npmDir(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no folder for npm packages: %v", err)
	}
	dir := filepath.Join(cache, "skerry", "npm-"+modbusSerial)
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "modbus-serial", "package.json")); err == nil {
		return dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	// The native serial port is optional and has to be compiled: this is TCP only.
	out, err := exec.CommandContext(ctx, "npm", "install", "--prefix", dir, "--omit=optional", "--no-audit", "--no-fund", modbusSerial).CombinedOutput()
	if err != nil {
		t.Skipf("no %s: npm: %v: %s", modbusSerial, err, out)
	}
	return dir
}

func TestModbusSerialOfNPM(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node: apt-get install nodejs npm")
	}
	dir := npmDir(t)
	script := filepath.Join(t.TempDir(), "server.js")
	if err := os.WriteFile(script, []byte(server), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	cmd := exec.Command(node, script, strconv.Itoa(port))
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(dir, "node_modules"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if lines := bufio.NewScanner(out); !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the server did not start: %q", lines.Text())
	}

	if who, err := identified(t, &driver.Driver{}, tcp(port, 1)); err != nil || !strings.HasPrefix(who, "VendorName=Others ProductCode=JS MajorMinorRevision=8") {
		t.Errorf("identified %q, %v", who, err)
	}
	conn, got := open(t, &driver.Driver{}, device(tcp(port, 1)))
	for name, want := range map[string]devices.Value{
		"value": uint16(10), "counter": uint16(11), "input": uint16(10005), "on": true, "wide": uint32(20<<16 + 21),
	} {
		got.UntilValue(t, 0, name, want)
	}
	n := len(got.Samples())
	write(t, conn, "value", uint16(4711))
	write(t, conn, "on", false)
	write(t, conn, "wide", uint32(0xDEADBEEF))
	got.UntilValue(t, n, "wide", uint32(0xDEADBEEF))
	got.UntilValue(t, n, "on", false)

	who, ok := conn.(driver.Identifier)
	if !ok {
		t.Fatal("the Conn is no Identifier")
	}
	objects, err := who.Identify(t.Context(), 1)
	if err != nil || len(objects) < 3 || objects[0].Value != "Others" {
		t.Errorf("%v, %v", objects, err)
	}
}
