// Package helm renders the Helm chart by Helm's own library and holds it to what
// `skerry init` applies. It is a module of its own: the product needs no Helm.
package helm

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/skerry-io/skerry/manifests"
)

// load is the chart as Helm reads it.
func load(t *testing.T, version string) *chart.Chart {
	t.Helper()
	files, err := manifests.Chart(version)
	if err != nil {
		t.Fatal(err)
	}
	var buffered []*archive.BufferedFile
	for _, f := range files {
		buffered = append(buffered, &archive.BufferedFile{Name: f.Name, Data: f.Data})
	}
	c, err := loader.LoadFiles(buffered)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// render is `helm template`: values in YAML over those of the chart, which its schema
// checks.
func render(t *testing.T, namespace, values string) (objects map[string]any, err error) {
	t.Helper()
	given, err := loader.LoadValues(strings.NewReader(values))
	if err != nil {
		t.Fatal(err)
	}
	c := load(t, "v1.2.3")
	release := common.ReleaseOptions{Name: "edges", Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(c, given, release, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.RenderWithContext(t.Context(), c, all)
	if err != nil {
		return nil, err
	}
	objects = map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		maps.Copy(objects, decode(t, files[name]))
	}
	return objects, nil
}

// decode gives the objects of a YAML stream by kind and name.
func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	objects := map[string]any{}
	docs := utilyaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(text)))
	defer docs.Close()
	for {
		buf := make([]byte, len(text)+1)
		n, err := docs.Read(buf)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		var obj map[string]any
		if err := yaml.UnmarshalStrict(buf[:n], &obj); err != nil {
			t.Fatalf("%v in\n%s", err, buf[:n])
		}
		if obj == nil {
			continue // comments
		}
		meta, ok := obj["metadata"].(map[string]any)
		if !ok {
			t.Fatalf("an object without metadata:\n%s", buf[:n])
		}
		key := fmt.Sprintf("%v %v/%v", obj["kind"], meta["namespace"], meta["name"])
		if objects[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		objects[key] = obj
	}
}

// TestHelmRendersWhatInitApplies: one source, two ways to the same objects, but for the
// Namespace, which Helm makes by itself.
func TestHelmRendersWhatInitApplies(t *testing.T) {
	for name, values := range map[string]string{
		"least":   "advertiseAddresses: [proxy.example.com:7443]",
		"numbers": "advertiseAddresses: ['10.0.0.1', '[2001:db8::1]:443']\nservice: {type: NodePort, nodePort: 30743}",
		"words": `
advertiseAddresses: [a.example]
image: registry.example:5000/a/cloudproxy@sha256:00
imagePullPolicy: Always
nodeAddress: 10.9.8.7:10250
service: {annotations: {x/y: 'a "quoted" #word: {}', z: "yes", n: "1"}}
extraArgs: [--log-level=debug, '--edge-labels=a: "b" # c', "--x=\ttab"]
`,
		"pod": `
advertiseAddresses: [a.example]
nodeSelector: {kubernetes.io/os: linux, disk: "true"}
tolerations: [{key: k, operator: Exists}, {key: "8", value: "on", effect: NoExecute, tolerationSeconds: 1000000000}]
resources: {limits: {memory: 4Gi}}
podPolicy: false
`,
	} {
		t.Run(name, func(t *testing.T) {
			const namespace = "edge-infra"
			got, err := render(t, namespace, values)
			if err != nil {
				t.Fatal(err)
			}
			v, err := manifests.DefaultValues()
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.UnmarshalStrict([]byte(values), &v); err != nil {
				t.Fatal(err)
			}
			ours, err := manifests.Render(namespace, v)
			if err != nil {
				t.Fatal(err)
			}
			want := decode(t, string(ours))
			delete(want, "Namespace <nil>/"+namespace)
			if len(got) < 10 || want["Deployment "+namespace+"/cloudproxy"] == nil {
				t.Errorf("objects are missing: %v", slices.Sorted(maps.Keys(got)))
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-init +helm):\n%s", d)
			}
		})
	}
}

// TestHelmRefuses what the schema does not allow, before anything is rendered.
func TestHelmRefuses(t *testing.T) {
	const ok = "advertiseAddresses: [a.example]\n"
	for values, want := range map[string]string{
		"":                                  "advertiseAddresses",
		"advertiseAddresses: ['a,b']":       "advertiseAddresses",
		ok + "service: {type: External}":    "service",
		ok + "service: {nodePort: '30743'}": "nodePort",
		ok + "imagePullPolicy: Sometimes":   "imagePullPolicy",
		ok + "image: ''":                    "image",
		ok + "colour: blue":                 "colour",
		ok + "podPolicy: 'false'":           "podPolicy",
		ok + "extraArgs: [1]":               "extraArgs",
	} {
		if _, err := render(t, "n", values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", values, err)
		}
	}
}

// TestVersion is one that Helm takes, whatever git says.
func TestVersion(t *testing.T) {
	for version, want := range map[string]string{"v1.2.3": "1.2.3", "v1.2.3-4-gabcdef-dirty": "1.2.3-4-gabcdef-dirty", "483145a": "0.0.0", "": "0.0.0"} {
		if got := load(t, version).Metadata.Version; got != want {
			t.Errorf("%q became %q, want %q", version, got, want)
		}
	}
}
