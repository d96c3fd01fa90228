package deviceapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/sim"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/deviceapi"
	edge "github.com/skerry-io/skerry/edgeagent/devices"
	"github.com/skerry-io/skerry/edgeagent/store"
)

type nobody struct{}

func (nobody) DeviceStatus(*v1alpha1.Device) {}

// looker is the driver of sim that can be asked what only others can: it answers as
// told.
type looker struct {
	sim.Driver

	browse func(dev *devices.Device, root string, most int, tell func(survey.Line) error) error
}

func (looker) Discover(_ context.Context, url string) (survey.Discovery, error) {
	return survey.Discovery{Servers: []survey.Server{{Name: url}}}, nil
}

func (l looker) Browse(_ context.Context, dev *devices.Device, root string, most int, tell func(survey.Line) error) error {
	return l.browse(dev, root, most, tell)
}

// start serves an edge with the Device plant/press-1, which is simulated.
func start(t *testing.T, drivers map[string]devices.Driver) string {
	t.Helper()
	st, err := store.Open(store.Config{Dir: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	int16Type := v1alpha1.ValueType{Type: v1alpha1.TypeInt16}
	top := 100.0
	model := v1alpha1.DeviceModel{Spec: v1alpha1.DeviceModelSpec{
		Properties: []v1alpha1.Property{
			{Name: "speed", ValueType: int16Type, Access: v1alpha1.ReadWrite, Max: &top, Unit: "rpm"},
			{Name: "count", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeUint64}, Access: v1alpha1.ReadOnly},
			{Name: "unused", ValueType: int16Type},
		},
		Methods: []v1alpha1.Method{{Name: "Echo", Inputs: []v1alpha1.FieldType{{Name: "in", ValueType: int16Type}}, Outputs: []v1alpha1.FieldType{{Name: "out", ValueType: int16Type}}}},
	}}
	dev := v1alpha1.Device{Spec: v1alpha1.DeviceSpec{
		ModelRef: v1alpha1.ModelRef{Name: "press"}, NodeName: "edge", Protocol: v1alpha1.Protocol{Sim: &v1alpha1.Sim{}},
		Properties: []v1alpha1.DeviceProperty{{Name: "speed", Desired: &v1alpha1.JSON{Raw: []byte("7")}}, {Name: "count"}},
	}}
	dev.Namespace, dev.Name, dev.UID = "plant", "press-1", "u-1"
	broken := dev
	broken.Name, broken.UID, broken.Spec.ModelRef.Name = "broken", "u-2", "none"
	var batch store.Batch
	for key, o := range map[string]any{"devicemodels/plant/press": model, "devices/plant/press-1": dev, "devices/plant/broken": broken} {
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		batch.Upserts = append(batch.Upserts, store.Object{Key: key, Version: "1", Value: b})
	}
	if err := st.Apply(batch); err != nil {
		t.Fatal(err)
	}
	m, err := edge.New(edge.Config{Store: st, Report: nobody{}, Drivers: drivers, Node: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	srv := httptest.NewServer(deviceapi.New(m, nil))
	t.Cleanup(func() {
		srv.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for limit := time.Now().Add(time.Minute); ; {
		if status, _ := ask(t, srv.URL, http.MethodGet, survey.LivePath("plant", "press-1", survey.Read), ""); status == http.StatusOK {
			return srv.URL
		}
		if time.Now().After(limit) {
			t.Fatal("the device is not read within a minute")
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells of it
	}
}

// ask gives the status, and the body or the message of a Status in it.
func ask(t *testing.T, url, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var st metav1.Status
	if resp.StatusCode != http.StatusOK && json.Unmarshal(b, &st) == nil && st.Code == int32(resp.StatusCode) {
		return resp.StatusCode, st.Message
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestLive(t *testing.T) {
	url := start(t, map[string]devices.Driver{"sim": sim.Driver{}})
	press := func(op string) string { return survey.LivePath("plant", "press-1", op) }
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", press("write"), `{"writes":[{"property":"speed","value":42}]}`, 200, `{"results":[{"property":"speed","note":"the Device desires 7, which the edge writes again soon; change spec.properties[].desired to keep the value"}]}`},
		{"GET", press("read") + "?property=speed", "", 200, `{"values":[{"property":"speed","value":42,"quality":"Good"`},
		{"GET", press("read") + "?property=spee", "", 404, `device plant/press-1 has no property "spee"; it has speed`},
		{"GET", press("read") + "?property=unused", "", 404, `device plant/press-1 has no property "unused"`},
		{"GET", press("read") + "?" + strings.Repeat("property=speed&", 1001), "", 400, "1001 properties at once, 1000 are the most"},
		{"POST", press("write"), `{"writes":[{"property":"speed","value":101}]}`, 400, "property speed takes no 101: "},
		{"POST", press("write"), `{"writes":[{"property":"count","value":1}]}`, 400, "access ReadOnly"},
		{"POST", press("write"), `{"writes":[{"property":"speed","value":1},{"property":"speed","value":"fast"}]}`, 400, `takes no "fast"`},
		{"POST", press("write"), `{"writes":[]}`, 400, "0 writes"},
		{"POST", press("write"), `{"writes":[{"property":"speed","value":1}],"force":true}`, 400, `unknown field "force"`},
		{"POST", press("write"), `{"writes":[`, 400, "the request can't be read by this agent"},
		{"POST", press("write"), strings.Repeat(" ", survey.MaxBody+1), 413, "more than 262144 bytes"},
		{"POST", press("call"), `{"method":"Echo","args":{"in":5}}`, 200, `{"outputs":[{"name":"out","value":5}]}`},
		{"POST", press("call"), `{"method":"Echo"}`, 400, "method Echo needs argument in (int16)"},
		{"POST", press("call"), `{"method":"Echo","args":{"in":5,"on":1}}`, 400, "method Echo has no argument on; it takes in"},
		{"POST", press("call"), `{"method":"Stop"}`, 404, `has no method "Stop"; it has Echo`},
		{"GET", survey.LivePath("plant", "press-2", "read"), "", 404, "this edge has no Device plant/press-2"},
		{"GET", survey.LivePath("plant", "broken", "read"), "", 503, `device plant/broken is not open: ModelMissing: there is no DeviceModel "none"`},
		{"GET", press("write"), "", 405, ""},
		{"POST", survey.PathDiscover + "?url=opc.tcp://x", "", 501, "no driver for opcua: update it"},
		{"POST", survey.PathIdentify, "{}", 501, "no driver for modbus"},
	} {
		if status, got := ask(t, url, tt.method, tt.path, tt.body); status != tt.status || !strings.HasPrefix(got, tt.want) && !strings.Contains(got, tt.want) {
			t.Errorf("%s %.80s %.80s: %d %s, want %d %s", tt.method, tt.path, tt.body, status, got, tt.status, tt.want)
		}
	}
}

type rejected struct{}

func (rejected) Error() string               { return "not trusted" }
func (rejected) RejectedFingerprint() string { return "ab12" }

func TestBrowse(t *testing.T) {
	node := survey.Line{Node: &survey.Node{ID: "i=1"}}
	var asked *devices.Device
	var roots []string
	d := looker{browse: func(dev *devices.Device, root string, most int, tell func(survey.Line) error) error {
		asked = dev
		roots = append(roots, fmt.Sprint(root, " ", most))
		switch root {
		case "early":
			return &devices.ConfigError{Field: "root", Reason: "bad"}
		case "late":
			return errors.Join(tell(node), fmt.Errorf("open: %w", rejected{}))
		case "panic":
			panic("what a server sent")
		}
		return errors.Join(tell(node), tell(survey.Line{End: &survey.End{Nodes: 1}}))
	}}
	url := start(t, map[string]devices.Driver{"sim": sim.Driver{}, "opcua": d})
	browse := survey.PathBrowse + "?url=opc.tcp://plc:4840"
	for _, tt := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"opcua":{"url":"opc.tcp://other"},"secrets":{"s":{"password":"cHc="}}}`, 200, `{"node":{"id":"i=1","parent":"","class":"","name":""}}` + "\n" + `{"end":{"nodes":1}}`},
		{`{"opcua":{"url":""},"root":"late","maxNodes":5}`, 200, `{"end":{"nodes":0,"error":"open: not trusted","fingerprint":"ab12"}}`},
		{`{"opcua":{"url":""},"root":"early"}`, 400, "root: bad"},
		{`{"opcua":{"url":""},"root":"panic"}`, 502, "the driver failed: what a server sent"},
		{`{"opcua":{"url":""},"maxNodes":100001}`, 400, "maxNodes 100001 is not within 1 and 100000"},
	} {
		if status, got := ask(t, url, http.MethodPost, browse, tt.body); status != tt.status || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %d %s, want %d %s", tt.body, status, got, tt.status, tt.want)
		}
	}
	if strings.Join(roots, "|") != " 20000|late 5|early 20000|panic 20000" || asked.Spec.Protocol.OPCUA.URL != "opc.tcp://plc:4840" {
		t.Errorf("the driver was asked for %q at %s", roots, asked.Spec.Protocol.OPCUA.URL)
	}
	if status, got := ask(t, url, http.MethodPost, survey.PathDiscover+"?url=opc.tcp://plc", ""); status != 200 || !strings.Contains(got, "opc.tcp://plc") {
		t.Errorf("discover: %d %s", status, got)
	}
}

// TestSurveysAreFew: two browses are under way, and the third is refused.
func TestSurveysAreFew(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	d := looker{browse: func(*devices.Device, string, int, func(survey.Line) error) error {
		entered <- struct{}{}
		<-leave
		return errors.New("enough")
	}}
	url := start(t, map[string]devices.Driver{"sim": sim.Driver{}, "opcua": d})
	ended := make(chan int, 2)
	for range 2 {
		go func() {
			resp, err := http.Post(url+survey.PathBrowse, "", bytes.NewReader([]byte(`{"opcua":{"url":""}}`))) //nolint:noctx // a test
			if err != nil {
				ended <- 0
				return
			}
			resp.Body.Close()
			ended <- resp.StatusCode
		}()
		<-entered
	}
	status, got := ask(t, url, http.MethodPost, survey.PathBrowse, `{"opcua":{"url":""}}`)
	if status != http.StatusTooManyRequests || !strings.Contains(got, "2 requests of that kind are under way") {
		t.Errorf("the third: %d %s", status, got)
	}
	close(leave)
	for range 2 {
		if status := <-ended; status != http.StatusBadGateway {
			t.Errorf("one of the two: %d", status)
		}
	}
}
