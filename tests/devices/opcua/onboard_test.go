package opcua_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/onboard"
	"github.com/skerry-io/skerry/devices/opcua"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/deviceapi"
	edge "github.com/skerry-io/skerry/edgeagent/devices"
	"github.com/skerry-io/skerry/edgeagent/store"
)

type unheard struct{}

func (unheard) DeviceStatus(*v1alpha1.Device) {}

// site is an edge that can be asked.
type site struct {
	t     *testing.T
	url   string
	store *store.Store
	m     *edge.Manager
}

func newSite(t *testing.T) *site {
	t.Helper()
	d, err := opcua.New(opcua.Config{Dir: t.TempDir(), Name: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(store.Config{Dir: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	m, err := edge.New(edge.Config{Store: st, Report: unheard{}, Drivers: map[string]devices.Driver{"opcua": d}, Node: "edge-1"})
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
	srv := httptest.NewServer(deviceapi.New(m, nil))
	t.Cleanup(srv.Close)
	return &site{t, srv.URL, st, m}
}

// ask asks the edge and gives the whole answer.
func (s *site) ask(method, path string, body any) (int, []byte) {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// onboard browses and makes objects, and says how long each took.
func (s *site) onboard(server *v1alpha1.OPCUA, known []v1alpha1.Device) onboard.Result {
	s.t.Helper()
	begin := time.Now()
	status, answer := s.ask(http.MethodPost, survey.PathBrowse+"?url="+url.QueryEscape(server.URL), survey.BrowseRequest{OPCUA: *server})
	if status != http.StatusOK {
		s.t.Fatalf("browse: %d %s", status, answer)
	}
	browsed := time.Since(begin)
	found, err := onboard.ReadFound(bytes.NewReader(answer), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	begin = time.Now()
	r, err := onboard.OPCUA(found, onboard.Shape{}, onboard.Into{
		Namespace: "plant", Node: "edge-1", Name: "hall", Protocol: v1alpha1.Protocol{OPCUA: server}, Known: known,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%d nodes and %d bytes browsed in %v, %d models and %d Devices made in %v", len(found.Nodes), len(answer), browsed, len(r.Models), len(r.Devices), time.Since(begin))
	return r
}

// TestOnboard: what a browse makes of a server with 3,500 variables runs, and is the
// same a second time.
func TestOnboard(t *testing.T) {
	p := startPeer(t, map[string]any{"tree": 3500, "motors": 2})
	s := newSite(t)
	status, answer := s.ask(http.MethodPost, survey.PathDiscover+"?url="+url.QueryEscape(p.url), nil)
	var told survey.Discovery
	if err := json.Unmarshal(answer, &told); err != nil || status != http.StatusOK {
		t.Fatalf("discover: %d %s", status, answer)
	}
	i := slices.IndexFunc(told.Endpoints, func(e survey.Endpoint) bool { return e.Best })
	server := &v1alpha1.OPCUA{URL: p.url, Trust: &v1alpha1.OPCUATrust{Fingerprints: []string{told.Endpoints[i].Fingerprint}}}
	r := s.onboard(server, nil)
	if len(r.Models) != 2 || len(r.Devices) != 3 || len(r.Left) > 0 {
		t.Fatalf("%d models, %d devices, left %v", len(r.Models), len(r.Devices), r.Left)
	}
	if n := len(r.Devices[0].Spec.Properties); n < 3500 {
		t.Errorf("%d properties", n)
	}
	again := s.onboard(server, r.Devices)
	changes, err := onboard.Compare(again, r.Models, r.Devices)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if c.What != onboard.Same {
			t.Errorf("a second time: %+v", c)
		}
	}
	s.runs(r)
}

// runs has the edge take the motors, and reads, writes and calls one.
func (s *site) runs(r onboard.Result) {
	t := s.t
	t.Helper()
	var batch store.Batch
	put := func(key string, o any) {
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		batch.Upserts = append(batch.Upserts, store.Object{Key: key, Version: "1", Value: b})
	}
	put("devicemodels/plant/"+r.Models[1].Name, r.Models[1])
	for _, d := range r.Devices[1:] {
		d.UID = "u-1"
		if d.Name == "hall-hall-1-motor-2" {
			d.UID = "u-2"
		}
		put("devices/plant/"+d.Name, d)
	}
	if err := s.store.Apply(batch); err != nil {
		t.Fatal(err)
	}
	s.m.Wake("devices/plant/x")
	motor := func(operation string) string { return survey.LivePath("plant", "hall-hall-1-motor-2", operation) }
	for limit := time.Now().Add(time.Minute); ; {
		status, answer := s.ask(http.MethodGet, motor(survey.Read), nil)
		var got survey.Values
		if status == http.StatusOK && json.Unmarshal(answer, &got) == nil && len(got.Values) == 2 && got.Values[1].Unit == "rpm" && got.Values[1].Quality == "Good" {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("the motor can't be read: %d %s", status, answer)
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // nothing tells of it
	}
	write := survey.WriteRequest{Writes: []survey.PropertyWrite{{Property: "Speed", Value: v1alpha1.JSON{Raw: []byte("1500")}}}}
	if status, answer := s.ask(http.MethodPost, motor(survey.Write), write); status != http.StatusOK || string(answer) != `{"results":[{"property":"Speed"}]}`+"\n" {
		t.Errorf("write: %d %s", status, answer)
	}
	status, answer := s.ask(http.MethodGet, motor(survey.Read)+"?property=Speed", nil)
	var got survey.Values
	if err := json.Unmarshal(answer, &got); err != nil || status != http.StatusOK || got.Values[0].Value.String() != "1500" {
		t.Errorf("read: %d %s", status, answer)
	}
	write.Writes[0].Value.Raw = []byte("3001")
	if status, answer := s.ask(http.MethodPost, motor(survey.Write), write); status != http.StatusBadRequest {
		t.Errorf("write beyond the range that the server tells: %d %s", status, answer)
	}
	call := survey.CallRequest{Method: "Start", Args: map[string]v1alpha1.JSON{"ramp": {Raw: []byte("2.5")}}}
	if status, answer := s.ask(http.MethodPost, motor(survey.Call), call); status != http.StatusOK {
		t.Errorf("call: %d %s", status, answer)
	}
}
