package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

// ChartFile is a file of the Helm chart.
type ChartFile struct {
	Name string // below the chart's folder, with slashes
	Data []byte
}

// Chart gives the Helm chart, whose templates are made of the files here: the
// namespace is the release's, and "chart:" comments take the place of values. It has
// no Namespace; `helm install --create-namespace` makes that. An empty version or one
// that is not semantic becomes 0.0.0, as Helm takes no other.
func Chart(version string) ([]ChartFile, error) {
	var chart []ChartFile
	for _, name := range []string{"Chart.yaml", "values.yaml", "values.schema.json"} {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("embedded chart: %w", err)
		}
		chart = append(chart, ChartFile{name, data})
	}
	app := version
	if app == "" {
		app = "dev"
	}
	chart[0].Data = bytes.ReplaceAll(chart[0].Data, []byte(`appVersion: "0.0.0"`), []byte("appVersion: "+strconv.Quote(app)))
	chart[0].Data = bytes.ReplaceAll(chart[0].Data, []byte("version: 0.0.0"), []byte("version: "+semantic(version)))
	for _, name := range parts()[1:] {
		text, err := chartTemplate(name)
		if err != nil {
			return nil, err
		}
		chart = append(chart, ChartFile{"templates/" + name, []byte(text)})
	}
	return chart, nil
}

// semantic is what Helm takes for a chart's version.
func semantic(version string) string {
	v := strings.TrimPrefix(version, "v")
	if ok, err := regexp.MatchString(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`, v); err == nil && ok {
		return v
	}
	return "0.0.0"
}

// chartTemplate makes a template of a file.
func chartTemplate(name string) (string, error) {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return "", fmt.Errorf("embedded manifest: %w", err)
	}
	value, err := regexp.Compile(`(?m)^( *(?:- )?(?:[\w.-]+: )?)\S.* # chart: (.*)$`)
	if err != nil {
		return "", err
	}
	line, err := regexp.Compile(`(?m)^( *)#chart `)
	if err != nil {
		return "", err
	}
	text := value.ReplaceAllString(string(data), "$1$2")
	text = line.ReplaceAllString(text, "$1")
	text = strings.ReplaceAll(text, defaultNamespace, "{{ .Release.Namespace }}")
	if name == policyFile {
		text = "{{- if .Values.podPolicy }}\n" + text + "{{- end }}\n"
	}
	return text, nil
}

// execute renders a template with the few functions that the files use, each of
// which means the same in Helm.
func execute(name, text, namespace string, values map[string]any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"quote": func(v any) string { return strconv.Quote(fmt.Sprint(v)) },
		"join":  join,
		"toJson": func(v any) (string, error) {
			b, err := json.Marshal(v)
			return string(b), err
		},
	}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{"Values": values, "Release": map[string]any{"Namespace": namespace}})
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	return out.Bytes(), nil
}

func join(sep string, list []any) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, sep)
}

// defaultValues are those of values.yaml.
func defaultValues() (Values, error) {
	var v Values
	data, err := fs.ReadFile(files, "values.yaml")
	if err != nil {
		return v, fmt.Errorf("embedded values: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, &v); err != nil {
		return v, fmt.Errorf("values.yaml: %w", err)
	}
	return v, nil
}
