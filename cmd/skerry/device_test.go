package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	fielddevices "github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/sim"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/deviceapi"
	edgedevices "github.com/skerry-io/skerry/edgeagent/devices"
	"github.com/skerry-io/skerry/edgeagent/store"
)

// plant is a cluster's API with an edge behind it, whose devices are real and whose
// OPC UA server is a file of what a browse told.
type plant struct {
	t     *testing.T
	url   string
	store *store.Store
	edge  http.Handler
	wake  func(key string)

	mu      sync.Mutex // guards the following fields
	objects map[string]map[string]any
	applied []string
	edits   int // resourceVersion
}

type browsed struct{ sim.Driver }

func (browsed) Discover(_ context.Context, url string) (survey.Discovery, error) {
	return survey.Discovery{Endpoints: []survey.Endpoint{{URL: url, Policy: "Basic256Sha256", Mode: "Sign", Users: []string{"Anonymous"}, Fingerprint: "ab12", Best: true}}}, nil
}

type notTrusted struct{}

func (notTrusted) Error() string               { return "certificate rejected: nobody trusts it" }
func (notTrusted) RejectedFingerprint() string { return "ab12" }

func (browsed) Browse(_ context.Context, dev *fielddevices.Device, _ string, _ int, tell func(survey.Line) error) error {
	if err := tell(survey.Line{Progress: &survey.Progress{Doing: "connect"}}); err != nil {
		return err
	}
	if t := dev.Spec.Protocol.OPCUA.Trust; t == nil || t.Fingerprints[0] != "ab12" {
		return notTrusted{}
	}
	if secret, ok := dev.Secrets("plc"); dev.Spec.Protocol.OPCUA.User != nil && (!ok || string(secret["username"]) != "operator") {
		return fmt.Errorf("no user %q", secret)
	}
	text, err := os.ReadFile("../../devices/onboard/testdata/node-opcua.jsonl")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		var l survey.Line
		if err := json.Unmarshal(line, &l); err != nil {
			return err
		}
		if err := tell(l); err != nil {
			return err
		}
	}
	return nil
}

func (browsed) Identify(_ context.Context, m v1alpha1.Modbus) (survey.Identification, error) {
	return survey.Identification{Objects: []survey.IdentityObject{{ID: 0, Name: "VendorName", Value: fmt.Sprint(m.TCP.Address, "/", m.UnitID)}}}, nil
}

type quiet struct{}

func (quiet) DeviceStatus(*v1alpha1.Device) {}

func newPlant(t *testing.T) *plant {
	t.Helper()
	st, err := store.Open(store.Config{Dir: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	m, err := edgedevices.New(edgedevices.Config{Store: st, Report: quiet{}, Drivers: map[string]fielddevices.Driver{"sim": sim.Driver{}, "opcua": browsed{}, "modbus": browsed{}}, Node: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	p := &plant{t: t, store: st, edge: deviceapi.New(m, nil), wake: m.Wake, objects: map[string]map[string]any{}}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

func (p *plant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path, ok := strings.CutPrefix(r.URL.Path, "/api/v1/nodes/edge-1/proxy"); ok {
		r.URL.Path = path
		p.edge.ServeHTTP(w, r)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	answer := func(status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	switch {
	case r.URL.Path == "/api/v1/namespaces/plant/secrets/plc":
		answer(200, map[string]any{"apiVersion": "v1", "kind": "Secret", "data": map[string][]byte{"username": []byte("operator")}})
	case len(parts) == 6 && r.Method == http.MethodGet: // apis GROUP VERSION namespaces NS RESOURCE
		items := []any{}
		for key, o := range p.objects {
			if strings.HasPrefix(key, parts[5]+"/") {
				items = append(items, o)
			}
		}
		answer(200, map[string]any{"apiVersion": "devices.skerry.io/v1alpha1", "kind": "List", "items": items})
	case len(parts) == 7 && r.Method == http.MethodPatch:
		p.patch(r, parts[5]+"/"+parts[6], answer)
	case len(parts) == 7 && p.objects[parts[5]+"/"+parts[6]] != nil:
		answer(200, p.objects[parts[5]+"/"+parts[6]])
	default:
		answer(404, metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: 404, Message: r.URL.Path + " not found",
		})
	}
}

// patch takes what is applied whole, and of a merge the fingerprints.
func (p *plant) patch(r *http.Request, key string, answer func(int, any)) {
	b, _ := io.ReadAll(r.Body) // what came
	var o map[string]any
	if err := json.Unmarshal(b, &o); err != nil {
		answer(400, err.Error())
		return
	}
	if r.Header.Get("Content-Type") == "application/merge-patch+json" {
		var dev v1alpha1.Device
		b, _ := json.Marshal(p.objects[key])
		var change struct{ Spec v1alpha1.DeviceSpec }
		if json.Unmarshal(b, &dev) != nil {
			answer(400, "no Device")
			return
		}
		b, _ = json.Marshal(o)
		_ = json.Unmarshal(b, &change)
		dev.Spec.Protocol.OPCUA.Trust = change.Spec.Protocol.OPCUA.Trust
		b, _ = json.Marshal(dev)
		_ = json.Unmarshal(b, &o)
	}
	p.applied = append(p.applied, r.URL.Query().Get("fieldManager")+" "+key)
	p.edits++
	o["metadata"].(map[string]any)["resourceVersion"] = fmt.Sprint(p.edits)
	p.objects[key] = o
	answer(200, o)
}

// run is a command line against the plant.
func (p *plant) run(args ...string) (out, errs string, code int) {
	p.t.Helper()
	var stdout, stderr bytes.Buffer
	root := newRoot(streams{out: &stdout, err: &stderr})
	cfg := &rest.Config{Host: p.url, QPS: -1}
	for _, c := range root.Commands() {
		if c.Name() == "device" {
			root.RemoveCommand(c)
		}
	}
	made := func() *devices {
		return &devices{cluster: cluster{
			connect:        func(cluster) (kubernetes.Interface, error) { return kubernetes.NewForConfig(cfg) },
			connectDynamic: func(cluster) (dynamic.Interface, error) { return dynamic.NewForConfig(cfg) },
		}}
	}
	group := &cobra.Command{Use: "device"}
	group.AddCommand(deviceDiscover(made()), deviceBrowse(made()), deviceOnboard(made()), deviceImport(made()),
		deviceGet(made()), deviceRead(made()), deviceWrite(made()), deviceCall(made()), deviceTrust(made()))
	root.AddCommand(group)
	code = rootCode(p.t.Context(), root, streams{out: &stdout, err: &stderr}, append([]string{"device"}, args...))
	return stdout.String(), stderr.String(), code
}

// deviceStep is a command and what it must say.
type deviceStep struct {
	args      []string
	code      int
	out, errs []string
}

func (p *plant) steps(steps []deviceStep) {
	p.t.Helper()
	for _, s := range steps {
		out, errs, code := p.run(append(s.args, "-n", "plant")...)
		if code != s.code {
			p.t.Errorf("%v: exit %d, want %d: %s", s.args, code, s.code, errs)
		}
		for _, want := range s.out {
			if !strings.Contains(out, want) {
				p.t.Errorf("%v: out %q, want %q", s.args, out, want)
			}
		}
		for _, want := range s.errs {
			if !strings.Contains(errs, want) {
				p.t.Errorf("%v: err %q, want %q", s.args, errs, want)
			}
		}
	}
}

func TestDeviceOnboard(t *testing.T) {
	p := newPlant(t)
	server := []string{"--node", "edge-1", "--url", "opc.tcp://Plc-7:4840"}
	trusted := append(server, "--trust", "AB:12")
	p.steps([]deviceStep{
		{args: append([]string{"discover"}, server...), out: []string{"POLICY", "Basic256Sha256   Sign   Anonymous   *      ab12"}},
		{args: []string{"discover", "--node", "edge-1", "--modbus", "10.0.0.7:502", "--unit", "3"}, out: []string{"0        VendorName   10.0.0.7:502/3"}},
		{args: []string{"discover", "--node", "edge-1"}, code: 2, errs: []string{"one of --url and --modbus"}},
		{args: []string{"browse", "--url", "opc.tcp://x"}, code: 2, errs: []string{"--node is required"}},
		{args: append([]string{"browse"}, server...), code: 1, errs: []string{"edge edge-1 connects to opc.tcp://Plc-7:4840", "does not trust the server: certificate rejected", "next: compare", "--trust ab12"}},
		{args: append([]string{"browse"}, trusted...), out: []string{"Types/Analog", "°C", "Hall 1/Motor 1/Start", "float64[2 3]"}, errs: []string{"39 nodes found"}},
		{args: append([]string{"browse", "-o", "json"}, trusted...), out: []string{`"id": "nsu=urn:skerry:test:a;s=Analog"`}},
		{args: append([]string{"onboard", "--user-secret", "plc"}, trusted...), out: []string{"DeviceModel plc-7-motortype: new (would be)", "Device plc-7-hall-1-motor-2: new"}, errs: []string{"--apply does it"}},
		{args: append([]string{"onboard", "--user-secret", "none"}, trusted...), code: 1, errs: []string{"read Secret none in namespace plant"}},
		{args: append([]string{"onboard", "-o", "yaml"}, trusted...), out: []string{"---\napiVersion: devices.skerry.io/v1alpha1\nkind: DeviceModel", "nodeId: nsu=urn:skerry:test:a;s=Analog", "fingerprints:\n        - ab12"}},
		{args: append([]string{"onboard", "--name", "Hall"}, trusted...), code: 2, errs: []string{`--name "Hall"`}},
		{args: append([]string{"onboard", "--match", "nothing*"}, trusted...), code: 1, errs: []string{"nothing was found of which a Device could be made"}},
	})
	if len(p.applied) > 0 {
		t.Errorf("applied without being told to: %v", p.applied)
	}
	p.steps([]deviceStep{{args: append([]string{"onboard", "--apply"}, trusted...), out: []string{"Device plc-7: new\n"}, errs: []string{"next: kubectl get devices -n plant -l devices.skerry.io/source=plc-7 -w"}}})
	if len(p.applied) != 5 || p.applied[0] != "skerry-onboard devicemodels/plc-7" || p.applied[4] != "skerry-onboard devices/plc-7-hall-1-motor-2" {
		t.Errorf("applied %v", p.applied)
	}
	properties := p.objects["devices/plc-7"]["spec"].(map[string]any)["properties"].([]any)
	properties[0].(map[string]any)["name"] = "renamed"
	p.steps([]deviceStep{
		{args: append([]string{"onboard"}, trusted...), out: []string{"Device plc-7-hall-1-motor-1: unchanged", "Device plc-7: unchanged", "DeviceModel plc-7: changed (would be)\n  - properties[Counters.Counter0]\n  + properties[renamed]"}},
		{args: append([]string{"onboard", "-o", "json", "--apply"}, trusted...), out: []string{`"what": "same"`}},
	})
}

func TestDeviceOnboardRegisters(t *testing.T) {
	p := newPlant(t)
	bad := filepath.Join(t.TempDir(), "bad.csv")
	if err := os.WriteFile(bad, []byte("name,address\nx,y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	modbus := []string{"onboard", "--node", "edge-1", "--modbus", "10.0.0.7:502", "--unit", "3"}
	p.steps([]deviceStep{
		{args: modbus, code: 2, errs: []string{"--registers is needed with --modbus"}},
		{args: append(modbus, "--registers", bad), code: 1, errs: []string{"bad.csv: line 2, column 3 (address)", "next: correct the table"}},
		{args: append(modbus, "--registers", "../../devices/onboard/testdata/meter.csv"), out: []string{"Device 10-0-0-7: new (would be)"}},
		{args: append(modbus, "--registers", "../../devices/onboard/testdata/meter.csv", "--name", "meter", "--apply"), out: []string{"DeviceModel meter: new\n"}},
	})
	if len(p.applied) != 2 {
		t.Errorf("applied %v", p.applied)
	}
}

func TestDeviceImport(t *testing.T) {
	p := newPlant(t)
	file := filepath.Join(t.TempDir(), "kubeedge.yaml")
	text := `apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: meter}
spec:
  properties: [{name: power, type: INT}, {name: video, type: STREAM}]
---
# nothing
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: meter-1}
spec:
  deviceModelRef: {name: meter}
  protocol: {protocolName: modbus, configData: {ip: 10.0.0.7, slaveID: 1}}
  properties:
  - name: power
    visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 1, limit: 1}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.steps([]deviceStep{
		{args: []string{"import"}, code: 2, errs: []string{"--filename is required"}},
		{args: []string{"import", "-f", file, "--node", "edge-1"}, out: []string{"Device meter-1: new (would be)"}, errs: []string{`left out: DeviceModel meter, property video: type "STREAM"`}},
		{args: []string{"import", "-f", file, "-o", "yaml"}, out: []string{"table: holding"}, errs: []string{"it has no nodeName: give one with --node"}},
		{args: []string{"import", "-f", "/dev/null"}, code: 1, errs: []string{"there is no Device and no DeviceModel"}},
	})
}
