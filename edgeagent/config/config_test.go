package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: skerry.io/v1alpha1\nkind: EdgeAgentConfig\n"

func TestParse(t *testing.T) {
	c, err := Parse([]byte(head + "server: proxy.example:7443\nnodeName: edge-1\nlabels: {site: north}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Server, want.NodeName, want.Labels = "proxy.example:7443", "edge-1", map[string]string{"site": "north"}
	if d := cmp.Diff(want, c); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	b, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, again); d != "" {
		t.Errorf("what Marshal writes reads back changed (-want +got):\n%s", d)
	}
}

func TestBad(t *testing.T) {
	ok := head + "server: p:1\nnodeName: e\n"
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", ok + "nodename2: x\n", `unknown field "nodename2"`},
		{"wrong type", ok + "labels: 7\n", "labels"},
		{"not yaml", "\tx", "found character"},
		{"twice", ok + "nodeName: f\n", "nodeName"},
		{"empty", "", "apiVersion"},
		{"other kind", "apiVersion: v1\nkind: Pod\n", "EdgeAgentConfig"},
		{"no server", head + "nodeName: e\n", "server: is missing"},
		{"server without port", head + "server: p\nnodeName: e\n", "HOST:PORT"},
		{"server port", head + "server: p:99999\nnodeName: e\n", "99999"},
		{"node name", head + "server: p:1\nnodeName: Edge_1\n", "nodeName"},
		{"relative", ok + "stateDir: x\n", "stateDir"},
		{"socket", ok + "criSocket: /run/x\n", "criSocket"},
		{"label", ok + "labels: {'a b': c}\n", "labels"},
		{"dns", ok + "clusterDNS: [x]\n", "clusterDNS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.text))
			if err == nil {
				err = c.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one that contains %q", err, tt.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("error has more than one line: %q", err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	p := filepath.Join(t.TempDir(), "edgeagent.yaml")
	if _, err := Load(p); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "skerry join") {
		t.Errorf("missing file: got %v", err)
	}
	if err := os.WriteFile(p, []byte(head+"x: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(p); err == nil || !strings.Contains(err.Error(), p) {
		t.Errorf("error must name the file: %v", err)
	}
}
