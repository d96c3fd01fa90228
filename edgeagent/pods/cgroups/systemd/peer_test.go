package systemd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// peer answers on a socket as systemd does: it knows units by name, and each change
// is a job whose end it tells, before or after it answers.
type peer struct {
	socket string

	mu     sync.Mutex // guards the following fields
	units  map[string]map[string]any
	calls  []string
	result string // of jobs
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{socket: filepath.Join(t.TempDir(), "s"), units: map[string]map[string]any{}, result: jobDone}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(t, c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return p
}

// serve is the server's half of EXTERNAL (D-Bus specification, Authentication
// Protocol), then messages until the other side has enough.
func (p *peer) serve(t *testing.T, c net.Conn) {
	t.Helper()
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for _, answer := range []string{"REJECTED EXTERNAL", "OK 0123456789abcdef0123456789abcdef", "AGREE_UNIX_FD", ""} {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Error(err)
			return
		}
		if strings.Contains(line, "BEGIN") {
			break
		}
		if answer != "" {
			_, _ = fmt.Fprintf(c, "%s\r\n", answer)
		}
	}
	for {
		m, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		for _, answer := range p.answers(m) {
			if err := answer.EncodeTo(c, binary.LittleEndian); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// answers are the reply to a call and, of every second job, before it the news that it
// has ended.
func (p *peer) answers(m *dbus.Message) []*dbus.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	method, _ := m.Headers[dbus.FieldMember].Value().(string)
	if method == "Ping" {
		return nil
	}
	unit, _ := m.Body[0].(string)
	p.calls = append(p.calls, method+" "+unit)
	fail := func(name string) []*dbus.Message {
		return []*dbus.Message{reply(m, dbus.TypeError, map[dbus.HeaderField]dbus.Variant{dbus.FieldErrorName: dbus.MakeVariant(name)}, unit)}
	}
	known := p.units[unit]
	switch method {
	case "StartTransientUnit":
		if known != nil {
			return fail(unitExists)
		}
		p.units[unit] = map[string]any{}
		p.set(unit, m.Body[2])
	case "SetUnitProperties":
		p.set(unit, m.Body[2])
		return []*dbus.Message{reply(m, dbus.TypeMethodReply, nil)}
	case "StopUnit":
		if known == nil {
			return fail(noSuchUnit)
		}
		delete(p.units, unit)
	default:
		return fail("org.freedesktop.DBus.Error.UnknownMethod")
	}
	job := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", len(p.calls)))
	out := []*dbus.Message{reply(m, dbus.TypeMethodReply, nil, job), {Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(busPath)), dbus.FieldInterface: dbus.MakeVariant(ofManager), dbus.FieldMember: dbus.MakeVariant(jobRemoved),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(uint32(0), job, "", "")),
	}, Body: []any{uint32(len(p.calls)), job, unit, p.result}}}
	if len(p.calls)%2 == 0 {
		slices.Reverse(out)
	}
	return out
}

func reply(to *dbus.Message, kind dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body ...any) *dbus.Message {
	out := &dbus.Message{Type: kind, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(to.Serial())}, Body: body}
	maps.Copy(out.Headers, headers)
	if len(body) > 0 {
		out.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	return out
}

func (p *peer) set(unit string, props any) {
	list, _ := props.([][]any)
	for _, kv := range list {
		name, _ := kv[0].(string)
		v, _ := kv[1].(dbus.Variant)
		p.units[unit][name] = v.Value()
	}
}

// testGroups are in a directory that stands for where control groups are mounted.
func testGroups(t *testing.T, p *peer, mount string, unified bool) *Groups {
	t.Helper()
	file := filepath.Join(mount, "memory", "cgroup.procs")
	if unified {
		file = filepath.Join(mount, "cgroup.controllers")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := cgroups.Open(mount)
	if err != nil {
		t.Fatal(err)
	}
	return New(tree, p.socket)
}

func TestUnits(t *testing.T) {
	p := newPeer(t)
	mount := t.TempDir()
	g := testGroups(t, p, mount, false)
	const pod = "/k.slice/k-burstable.slice/k-burstable-pod1.slice"
	limits := cgroups.Limits{CPUShares: 512, CPUQuota: 33300, CPUPeriod: 100000, MemoryLimit: 64 << 20, PIDs: 77}
	if err := g.Ensure(pod, limits); err != nil {
		t.Fatal(err)
	}
	limits.MemoryLimit, limits.CPUQuota = cgroups.Unbounded, cgroups.Unbounded
	if err := g.Ensure(pod, limits); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"Description": "Pods: k-burstable-pod1.slice", "DefaultDependencies": false, "Wants": []string{"k-burstable.slice"},
		"CPUAccounting": true, "MemoryAccounting": true, "TasksAccounting": true, "BlockIOAccounting": true,
		"CPUShares": uint64(512), "CPUQuotaPerSecUSec": unset, "TasksMax": uint64(77), "MemoryLimit": unset,
	}
	p.mu.Lock()
	if diff := cmp.Diff(want, p.units["k-burstable-pod1.slice"]); diff != "" {
		t.Error(diff)
	}
	if p.units["k.slice"]["Wants"] != nil || p.units["k.slice"]["CPUShares"] != nil {
		t.Errorf("k.slice has %v", p.units["k.slice"])
	}
	p.calls = nil
	p.mu.Unlock()
	if _, err := os.Stat(filepath.Join(mount, "memory", pod)); err != nil {
		t.Error("not made where systemd does not:", err)
	}
	const former = "/k/burstable/pod1" // of the driver cgroupfs
	if err := os.MkdirAll(filepath.Join(mount, "memory", former, "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if !g.Has(pod) || !g.Has(former) || g.Has("/k.slice/k-pod1.slice") {
		t.Error("not known what is there")
	}
	for range 2 {
		if err := g.Remove(pod, "/k.slice/k-pod1.slice", former); err != nil {
			t.Fatal(err)
		}
	}
	if g.Has(pod) || g.Has(former) {
		t.Error("still there")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	stops := []string{"StopUnit k-burstable-pod1.slice", "StopUnit k-pod1.slice"}
	if diff := cmp.Diff(slices.Concat(stops, stops), p.calls); diff != "" {
		t.Error(diff)
	}
}

func TestFailures(t *testing.T) {
	p := newPeer(t)
	g := testGroups(t, p, t.TempDir(), true)
	p.result = "failed"
	if err := g.Ensure("/k.slice", cgroups.Limits{}); err == nil || !strings.Contains(err.Error(), "ended as failed") {
		t.Errorf("got %v", err)
	}
	g.socket += "absent"
	if err := g.Ensure("/k.slice", cgroups.Limits{}); err == nil || !strings.Contains(err.Error(), "connect to systemd") {
		t.Errorf("got %v", err)
	}
}

func TestPropertiesV2(t *testing.T) {
	got := properties(cgroups.Limits{CPUShares: 1024, CPUQuota: 5, CPUPeriod: 1000, MemoryLimit: 7, PIDs: cgroups.Unbounded}, true)
	want := []unitProperty{
		property("CPUWeight", uint64(39)), property("CPUQuotaPeriodUSec", uint64(1000)),
		property("CPUQuotaPerSecUSec", uint64(10000)), property("MemoryMax", uint64(7)), property("TasksMax", unset),
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b dbus.Variant) bool { return a.String() == b.String() })); diff != "" {
		t.Error(diff)
	}
}
