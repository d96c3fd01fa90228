package arch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const module = "github.com/skerry-io/skerry"

// Doors of modules that are part of the vocabulary.
const (
	anywhere = "*"
	inTests  = "_test.go"
)

// doors lists every outside module and the only folders that may import it. The
// longest entry that matches an import decides. What is not listed may not be
// imported at all: a new dependency is a decision, and this table records it.
var doors = map[string][]string{
	"github.com/KimMachineGun/automemlimit": {"cmd/edgeagent"},
	"github.com/quic-go/quic-go":            {"tunnel/link", "tunnel/tunneltest", "bench/tunnel"},
	"github.com/quic-go/quic-go/quicvarint": {"tunnel/wire"},
	"github.com/cockroachdb/pebble/v2":      {"edgeagent/store"},
	"github.com/fsnotify/fsnotify":          {"edgeagent/kubeletapi/logs"},
	"github.com/godbus/dbus/v5":             {"edgeagent/pods/cgroups/systemd"},
	"github.com/gopcua/opcua":               {"devices/opcua"},
	"github.com/eclipse/paho.golang":        {"edgeagent/bus/external", inTests},
	"github.com/klauspost/compress/zstd":    {"tunnel/dictionary", "tunnel/compress"},
	"github.com/mochi-mqtt/server/v2":       {"edgeagent/bus/embedded"},
	"github.com/prometheus/client_golang":   {"cloudproxy", "cmd/cloudproxy"},
	"github.com/spf13/cobra":                {"cmd"},
	"github.com/spf13/pflag":                {"cmd"},
	"google.golang.org/grpc":                {"edgeagent/cri"},
	"google.golang.org/protobuf":            {"edgeagent/cri"},
	"k8s.io/apiserver":                      {"cloudproxy/kubeletfront"},
	"k8s.io/client-go":                      {"cloudproxy", "cmd/cloudproxy", "cmd/skerry"},
	"k8s.io/cri-api":                        {"edgeagent/cri"},
	"k8s.io/cri-client":                     {"edgeagent/cri"},
	"k8s.io/cri-streaming":                  {"cloudproxy/kubeletfront", "edgeagent/cri"},
	"k8s.io/streaming":                      {"cloudproxy/kubeletfront"},
	"k8s.io/klog":                           {"cmd/daemon"},
	"k8s.io/kubelet/pkg/apis/stats":         {"edgeagent/stats"},
	"k8s.io/utils":                          {"cloudproxy/kubeletfront"}, // exit codes for cri-streaming
	"golang.org/x/crypto/bcrypt":            {"edgeagent/bus/embedded", inTests},
	"golang.org/x/net/http/httpproxy":       {"tunnel/link"},
	"golang.org/x/net/ipv4":                 {"tunnel/link"},
	"golang.org/x/net/websocket":            {"cloudproxy/kubeletfront"},
	"golang.org/x/time":                     {"cloudproxy/enroll"},
	"golang.org/x/term":                     {"cmd/skerry"},
	"sigs.k8s.io/yaml":                      {"cmd", "edgeagent/bus/embedded", "edgeagent/config", "edgeagent/images", "edgeagent/staticpods", "manifests"},

	"github.com/creack/pty":        {inTests},
	"github.com/google/go-cmp":     {inTests},
	"github.com/moby/spdystream":   {inTests}, // the other implementation of what edgeagent/cri/spdy sends
	"github.com/prometheus/common": {inTests},
	"go.uber.org/goleak":           {inTests},
	"golang.org/x/sync":            {anywhere},
	"golang.org/x/sys":             {anywhere},
	"k8s.io/api":                   {anywhere},
	"k8s.io/apimachinery":          {anywhere},
}

// lockedDoors are modules whose doors hold for tests and benchmarks, too: what
// these do with quic-go, the tunnel must be able to do. bench/tunnel compares
// the tunnel with it.
var lockedDoors = []string{"github.com/quic-go/quic-go"}

// walls lists what must not import what, and why. An entry names folders of
// this module or outside modules.
var walls = []struct {
	from, to []string
	why      string
}{
	{[]string{"cloudproxy"}, []string{"edgeagent"}, "the two halves meet only in tunnel/wire"},
	{[]string{"edgeagent"}, []string{"cloudproxy"}, "the two halves meet only in tunnel/wire"},
	{[]string{"devices"}, []string{"edgeagent", "cloudproxy", "tunnel"}, "drivers and twins run without an agent"},
	{[]string{"tunnel"}, []string{"devices", "edgeagent", "cloudproxy"}, "the tunnel carries bytes and knows no payload"},
	{[]string{"tunnel", "certs"}, []string{"k8s.io"}, "tunnel and certs know nothing of Kubernetes"},
	{[]string{"certs"}, []string{"tunnel", "devices", "edgeagent", "cloudproxy"}, "identity is a leaf"},
	{
		[]string{"edgeagent", "cmd/edgeagent", "certs", "tunnel", "devices"},
		[]string{"k8s.io/client-go", "k8s.io/apiserver"},
		"it would more than double the edge's binary",
	},
	{
		[]string{"cloudproxy", "edgeagent", "devices", "tunnel", "certs", "manifests"},
		[]string{"cmd"},
		"programs use packages, not the other way round",
	},
	{
		[]string{"cmd", "cloudproxy", "edgeagent", "devices", "tunnel", "certs", "manifests"},
		[]string{"tests", "bench"},
		"the product does not need its tests",
	},
}

// testOnly lists packages that only _test.go files and each other may import.
var testOnly = []string{"tunnel/tunneltest", "edgeagent/store/storetest", "devices/drivertest", "devices/modbus/modbustest"}

// edge is where the edge's binary starts, and what must not be reached from
// there through packages of this module.
var edge = struct{ from, never []string }{
	from:  []string{"edgeagent", "cmd/edgeagent"},
	never: []string{"k8s.io/client-go", "k8s.io/apiserver"},
}

const (
	maxLines     = 400
	maxTestLines = 800
)

// rules maps a name to a function that lists violations.
func rules() map[string]func(tree) []string {
	return map[string]func(tree) []string{
		"doors":        checkDoors,
		"walls":        checkWalls,
		"wire":         checkWire,
		"edge binary":  checkEdge,
		"test helpers": checkTestOnly,
		"package docs": checkDocs,
		"file length":  checkLength,
		"go.mod":       checkGoMod,
	}
}

// outside reports whether imp is of another module. The first element of a
// module's path has a dot, that of the standard library has none.
func outside(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".") && !within(imp, module)
}

// folder maps an import of this module to its folder, any other to itself.
func folder(imp string) string { return strings.TrimPrefix(imp, module+"/") }

// product reports whether the rules about imports hold for f: tests and
// benchmarks drive the product from outside and may use what they like.
func product(f file) bool { return !f.nested && !within(f.dir, "tests", "bench") }

func checkDoors(t tree) (bad []string) {
	for _, f := range t.files {
		for _, imp := range f.imports {
			locked := !f.nested && within(imp, lockedDoors...)
			if !product(f) && !locked || !outside(imp) {
				continue
			}
			door := ""
			for mod := range doors {
				if within(imp, mod) && len(mod) > len(door) {
					door = mod
				}
			}
			switch allowed := doors[door]; {
			case door == "":
				bad = append(bad, fmt.Sprintf("%s imports %s, which has no door: use what is there, or enter its one package in doors", f.path(), imp))
			case slices.Contains(allowed, anywhere), slices.Contains(allowed, inTests) && f.test, within(f.dir, allowed...):
			default:
				bad = append(bad, fmt.Sprintf("%s imports %s; only %s may", f.path(), imp, strings.Join(allowed, ", ")))
			}
		}
	}
	return bad
}

func checkWalls(t tree) (bad []string) {
	for _, f := range t.files {
		for _, imp := range f.imports {
			for _, w := range walls {
				if !f.nested && within(f.dir, w.from...) && within(folder(imp), w.to...) {
					bad = append(bad, fmt.Sprintf("%s imports %s: %s", f.path(), imp, w.why))
				}
			}
		}
	}
	return bad
}

// checkWire: the bytes on the wire are read and written with nothing but the
// standard library and QUIC's integers, so anyone can carry them elsewhere.
func checkWire(t tree) (bad []string) {
	for _, f := range t.files {
		for _, imp := range f.imports {
			first, _, _ := strings.Cut(imp, "/")
			pure := !strings.Contains(first, ".") || imp == "github.com/quic-go/quic-go/quicvarint"
			if within(f.dir, "tunnel/wire") && !f.test && !pure {
				bad = append(bad, fmt.Sprintf("%s imports %s: tunnel/wire takes the standard library and quicvarint", f.path(), imp))
			}
		}
	}
	return bad
}

// checkEdge follows the imports inside this module from the edge's packages.
func checkEdge(t tree) (bad []string) {
	imports := map[string][]string{} // folder to imports, tests left out
	via := map[string]string{}       // reached folder to the folder that imports it
	var queue []string
	for _, f := range t.files {
		if f.test || f.nested {
			continue
		}
		imports[f.dir] = append(imports[f.dir], f.imports...)
		if _, seen := via[f.dir]; !seen && within(f.dir, edge.from...) {
			via[f.dir] = ""
			queue = append(queue, f.dir)
		}
	}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		for _, imp := range imports[dir] {
			if within(imp, edge.never...) && via[dir] != "" { // direct imports are a wall's matter
				bad = append(bad, fmt.Sprintf("the edge's binary contains %s: %s", imp, chain(via, dir)))
			}
			to := folder(imp)
			if _, seen := via[to]; !seen && within(imp, module) {
				via[to] = dir
				queue = append(queue, to)
			}
		}
	}
	return bad
}

// chain writes how dir was reached.
func chain(via map[string]string, dir string) string {
	steps := []string{dir}
	for via[dir] != "" {
		dir = via[dir]
		steps = append(steps, dir)
	}
	slices.Reverse(steps)
	return strings.Join(steps, " -> ")
}

func checkTestOnly(t tree) (bad []string) {
	for _, f := range t.files {
		for _, imp := range f.imports {
			if product(f) && !f.test && within(folder(imp), testOnly...) && !within(f.dir, testOnly...) {
				bad = append(bad, fmt.Sprintf("%s imports %s, which is for tests", f.path(), imp))
			}
		}
	}
	return bad
}

// checkDocs wants one package comment per folder, in a file that is not a test
// unless the folder has nothing else.
func checkDocs(t tree) (bad []string) {
	docs, testDocs, hasSource := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, f := range t.files {
		docs[f.dir] += 0
		switch {
		case f.test && f.hasDoc:
			testDocs[f.dir]++
		case !f.test:
			hasSource[f.dir] = true
			if f.hasDoc {
				docs[f.dir]++
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(docs)) {
		n := docs[dir]
		if !hasSource[dir] {
			n = testDocs[dir]
		}
		if n != 1 {
			bad = append(bad, fmt.Sprintf("%s: %d files with a package comment, want 1", dir, n))
		}
	}
	return bad
}

func checkLength(t tree) (bad []string) {
	for _, f := range t.files {
		limit := maxLines
		if f.test {
			limit = maxTestLines
		}
		if f.lines > limit {
			bad = append(bad, fmt.Sprintf("%s has %d lines, limit %d: split it by noun", f.path(), f.lines, limit))
		}
	}
	return bad
}

// checkGoMod: k8s.io/kubernetes can only be required together with thirty
// replace lines, and a module with replace lines cannot be installed by
// "go install"; that is what the module in tests/cluster is for.
func checkGoMod(t tree) (bad []string) {
	for line := range strings.Lines(t.goMod) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) > 0 && fields[0] == "k8s.io/kubernetes" {
			bad = append(bad, "go.mod requires k8s.io/kubernetes: only tests/cluster may")
		}
		if len(fields) > 0 && (fields[0] == "replace" || slices.Contains(fields, "=>")) {
			bad = append(bad, "go.mod replaces a module, which breaks go install: "+strings.TrimSpace(line))
		}
	}
	return bad
}
