package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/manifests"
	"github.com/skerry-io/skerry/tests/lab"
)

// slavePort is where the Modbus slave listens, on the loopback of its edge.
const slavePort = 1502

// slave is a Modbus device of libmodbus on an edge's machine.
type slave struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

// startSlave builds and runs one until the test ends. Its holding register n has the
// value n in the beginning.
func startSlave(t *testing.T, e *lab.Edge) *slave {
	t.Helper()
	program := filepath.Join(t.TempDir(), "slave")
	text, err := exec.Command("gcc", "-O2", "-o", program, "../devices/modbus/slave/slave.c", "-I/usr/include/modbus", "-lmodbus").CombinedOutput()
	if err != nil {
		t.Fatalf("no Modbus device (make setup installs libmodbus): %v: %s", err, text)
	}
	cmd := exec.Command("nsenter", "--net="+e.Netns(), program, "tcp", strconv.Itoa(slavePort)) //nolint:gosec // the test's own
	cmd.Stderr = os.Stderr
	s := &slave{}
	out, err := cmd.StdoutPipe()
	must(t, err)
	s.in, err = cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	if s.out = bufio.NewScanner(out); !s.out.Scan() || s.out.Text() != "ready" {
		t.Fatalf("slave says %q", s.out.Text())
	}
	return s
}

// do sends a command and gives what it prints.
func (s *slave) do(t *testing.T, command string) string {
	t.Helper()
	_, err := fmt.Fprintln(s.in, command)
	must(t, err)
	var text string
	for s.out.Scan() {
		if s.out.Text() == "ok" {
			return text
		}
		text += s.out.Text()
	}
	t.Fatal("slave ended")
	return ""
}

// received are the lines of samples that the cloud has posted.
var received struct {
	mu   sync.Mutex // guards the following field
	text strings.Builder
}

// receiveSamples stands in for a database. It refuses each third request, as one that has
// too much to do.
func receiveSamples() *httptest.Server {
	var requests atomic.Int64
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || requests.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		received.mu.Lock()
		defer received.mu.Unlock()
		received.text.Write(body)
		w.WriteHeader(http.StatusNoContent)
	}))
}

// waitSamples waits until the cloud has posted good samples of a property, in this order;
// others may be between them.
func waitSamples(t *testing.T, ns string, e *lab.Edge, property string, values ...int) {
	t.Helper()
	eventually(t, fmt.Sprintf("samples %d", values), func() error {
		received.mu.Lock()
		rest := received.text.String()
		received.mu.Unlock()
		for _, v := range values {
			line := fmt.Sprintf(`device,node=%s,namespace=%s,device=press,property=%s value=%d,quality="Good"`, e.Name, ns, property, v)
			var ok bool
			if _, rest, ok = strings.Cut(rest, line); !ok {
				return fmt.Errorf("there is no %s", line)
			}
		}
		return nil
	})
}

const pressModel = `{"apiVersion":"devices.skerry.io/v1alpha1","kind":"DeviceModel","metadata":{"name":"press","namespace":%q},"spec":{"properties":[
{"name":"pressure","type":"uint16","unit":"kPa"},{"name":"limit","type":"uint16","max":500,"access":"ReadWrite"}]}}`

// pressDevice has the namespace, the node, and a desired limit.
const pressDevice = `{"apiVersion":"devices.skerry.io/v1alpha1","kind":"Device","metadata":{"name":"press","namespace":%q},"spec":{
"nodeName":%q,"modelRef":{"name":"press"},"protocol":{"modbus":{"tcp":{"address":"127.0.0.1:1502"},"unitId":1,"pollInterval":"200ms"}},
"properties":[{"name":"pressure","modbus":{"table":"holding","type":"uint16","address":10}},
{"name":"limit","desired":%s,"verify":true,"modbus":{"table":"holding","type":"uint16","address":20}}]}}`

func apply(t *testing.T, format string, args ...any) {
	t.Helper()
	must(t, theLab.Apply(t.Context(), fmt.Appendf(nil, format, args...)))
}

// device waits until cond returns nil for a Device.
func waitDevice(t *testing.T, ns, name, what string, cond func(st *v1alpha1.DeviceStatus) error) {
	t.Helper()
	eventually(t, "device "+name+" with "+what, func() error {
		r := try(t, "-n", ns, "get", "device", name, "-o", "json")
		if r.err != nil {
			return r.err
		}
		var d v1alpha1.Device
		if err := json.Unmarshal([]byte(r.out), &d); err != nil {
			return err
		}
		if err := cond(&d.Status); err != nil {
			return fmt.Errorf("%w: %+v", err, d.Status)
		}
		return nil
	})
}

// shows is a good value of a property.
func shows(property, value string) func(st *v1alpha1.DeviceStatus) error {
	return func(st *v1alpha1.DeviceStatus) error {
		for _, twin := range st.Twins {
			if twin.Name == property && twin.Value != nil && twin.Value.String() == value && twin.Quality == "Good" {
				return nil
			}
		}
		return fmt.Errorf("%s is not %s", property, value)
	}
}

// connected is a state of the condition Connected.
func connected(status metav1.ConditionStatus, reason string) func(st *v1alpha1.DeviceStatus) error {
	return func(st *v1alpha1.DeviceStatus) error {
		for _, c := range st.Conditions {
			if c.Type == v1alpha1.ConditionConnected && c.Status == status && (reason == "" || c.Reason == reason) {
				return nil
			}
		}
		return fmt.Errorf("connected is not %s %s", status, reason)
	}
}

// TestDevices has a Modbus device of libmodbus be a Device: values, desired values, an
// outage, and its end.
func TestDevices(t *testing.T) {
	t.Parallel()
	ns, e := newNamespace(t), newEdge(t)
	s := startSlave(t, e)
	logMemory(t, e, "without devices")
	apply(t, pressModel, ns)
	apply(t, pressDevice, ns, e.Name, "300")
	waitDevice(t, ns, "press", "the slave's value", shows("pressure", "10"))
	waitDevice(t, ns, "press", "the desired value, which the slave has taken", shows("limit", "300"))
	if table := kubectl(t, "-n", ns, "get", "devices"); !strings.Contains(table, "2/2 good") || !strings.Contains(table, e.Name) {
		t.Errorf("kubectl get devices shows\n%s", table)
	}
	logMemory(t, e, "with a device")
	s.do(t, "set 10 42")
	waitDevice(t, ns, "press", "a changed value", shows("pressure", "42"))
	apply(t, pressDevice, ns, e.Name, "350")
	waitDevice(t, ns, "press", "another desired value", shows("limit", "350"))
	s.do(t, "set 20 7") // somebody at the machine
	waitDevice(t, ns, "press", "the desired value once more", shows("limit", "350"))
	apply(t, pressDevice, ns, e.Name, "501")
	waitDevice(t, ns, "press", "a word about what is out of range", func(st *v1alpha1.DeviceStatus) error {
		for _, twin := range st.Twins {
			if strings.Contains(twin.LastError, "500") {
				return nil
			}
		}
		return fmt.Errorf("no twin has an error")
	})
	apply(t, pressDevice, ns, e.Name, "350")

	must(t, e.SetLink(t.Context(), "set", "outage=1"))
	waitDevice(t, ns, "press", "an edge that is away", connected(metav1.ConditionUnknown, "EdgeOffline"))
	for v := 60; v < 64; v++ {
		s.do(t, fmt.Sprintf("set 10 %d", v))
		polled(t, s)
	}
	s.do(t, "set 10 43")
	must(t, e.SetLink(t.Context(), "set", "outage=0"))
	waitDevice(t, ns, "press", "what came to be meanwhile", shows("pressure", "43"))
	waitSamples(t, ns, e, "pressure", 10, 42, 60, 61, 62, 63, 43)
	waitDevice(t, ns, "press", "an edge that is back", connected(metav1.ConditionTrue, ""))

	must(t, e.KillAgent(t.Context()))
	must(t, e.StartAgent(t.Context()))
	s.do(t, "set 10 44")
	waitDevice(t, ns, "press", "a value after a crash of the agent", shows("pressure", "44"))

	kubectl(t, "-n", ns, "delete", "device", "press")
	quiet(t, s)
	apply(t, pressDevice, ns, e.Name, "350")
	waitDevice(t, ns, "press", "a value when it was made anew", shows("pressure", "44"))
	removeDefinitions(t, s)
	apply(t, pressModel, ns)
	apply(t, pressDevice, ns, e.Name, "350")
	waitDevice(t, ns, "press", "a value when the definitions are back", shows("pressure", "44"))
}

// polled waits until the slave was asked three times more.
func polled(t *testing.T, s *slave) {
	t.Helper()
	count := func() int {
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(s.do(t, "answer"), "1=")))
		must(t, err)
		return n
	}
	before := count()
	eventually(t, "polls", func() error {
		if n := count(); n < before+3 {
			return fmt.Errorf("%d requests after %d", n, before)
		}
		return nil
	})
}

// quiet waits until nobody asks the slave any more.
func quiet(t *testing.T, s *slave) {
	t.Helper()
	before, same := s.do(t, "answer"), 0
	eventually(t, "an end of polling", func() error {
		now := s.do(t, "answer")
		if same++; now != before {
			same = 0
		}
		if before = now; same < 20 { // two seconds, ten times its pollInterval
			return fmt.Errorf("the slave has answered %s", now)
		}
		return nil
	})
}

// removeDefinitions takes the definitions out of the cluster, which ends all devices,
// and puts them back.
func removeDefinitions(t *testing.T, s *slave) {
	t.Helper()
	yaml, err := manifests.Install(lab.Namespace)
	must(t, err)
	t.Cleanup(func() { // other tests of devices need them
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		if err := theLab.Apply(ctx, yaml); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, "delete", "crd", "devices.devices.skerry.io", "devicemodels.devices.skerry.io")
	quiet(t, s)
	eventually(t, "definitions that can be applied again", func() error { return theLab.Apply(t.Context(), yaml) })
	for _, name := range []string{"devices.devices.skerry.io", "devicemodels.devices.skerry.io"} {
		kubectl(t, "wait", "--for=condition=Established", "--timeout=60s", "crd/"+name)
	}
}

// TestDevicesThatMakeNoSense are refused when they are applied, in words that say what to
// do. What can only be seen beside the model is said by the edge.
// It is over before TestDevices, which is parallel, takes the definitions away.
func TestDevicesThatMakeNoSense(t *testing.T) {
	ns := newNamespace(t)
	for name, tt := range map[string]struct{ from, to, want string }{
		"two protocols":      {`"protocol":{`, `"protocol":{"sim":{},`, "exactly one of opcua, modbus and sim"},
		"no node":            {`"nodeName":"nowhere",`, ``, "spec.nodeName"},
		"no table":           {`"table":"holding","type":"uint16","address":10`, `"table":"register","address":10`, `"coil"`},
		"no address":         {`"address":10`, `"address":70000`, "65535"},
		"another's property": {`"modbus":{"table":"holding","type":"uint16","address":10}`, `"opcua":{"nodeId":"i=1"}`, "each property needs the block of spec.protocol"},
		"twice":              {`"name":"limit"`, `"name":"pressure"`, "Duplicate value"},
	} {
		text := fmt.Sprintf(pressDevice, ns, "nowhere", "300")
		if !strings.Contains(text, tt.from) {
			t.Fatalf("%s: nothing to replace", name)
		}
		err := theLab.Apply(t.Context(), []byte(strings.Replace(text, tt.from, tt.to, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v does not say %q", name, err, tt.want)
		}
	}
	apply(t, pressDevice, ns, "nowhere", "300")
	waitDevice(t, ns, "press", "no edge", connected(metav1.ConditionUnknown, "NoSuchEdge"))
}

// TestDeviceOfTheReadme: what the README shows is taken as it stands there.
func TestDeviceOfTheReadme(t *testing.T) {
	ns := newNamespace(t)
	_, section, _ := strings.Cut(readFile(t, "../../README.md"), "## Devices\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var yaml strings.Builder
	for line := range strings.Lines(section) {
		if text, ok := strings.CutPrefix(line, "    "); ok {
			yaml.WriteString(text)
		}
	}
	cmd := theLab.Command(t.Context(), "-n", ns, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(yaml.String())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "devicemodel.devices.skerry.io/press created") || !strings.Contains(string(out), "device.devices.skerry.io/press-1 created") {
		t.Errorf("%v: %s", err, out)
	}
}

// logMemory tells what the agent has.
func logMemory(t *testing.T, e *lab.Edge, when string) {
	t.Helper()
	pid, _ := e.AgentPID()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") {
			t.Logf("agent %s: %s", when, strings.Join(strings.Fields(line), " "))
		}
	}
}
