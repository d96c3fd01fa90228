// Package manifests holds the Kubernetes objects of the cloud half. They are plain
// files, and the one source of all that installs: what `skerry init` applies, the
// manifests and the Helm chart of a release, and what the tests parse.
package manifests

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
)

// defaultNamespace is what the files say.
const defaultNamespace = "skerry-system"

const policyFile = "policy.yaml"

// parts are the files, in the order in which they are applied.
func parts() []string {
	return append(preparations(), "service.yaml", "deployment.yaml")
}

// preparations are those that must be there before a proxy starts. The definitions of
// devices are generated from devices/v1alpha1.
func preparations() []string {
	return []string{
		"namespace.yaml", "devices.skerry.io_devicemodels.yaml", "devices.skerry.io_devices.yaml", "rbac.yaml", policyFile,
	}
}

//go:embed *.yaml values.schema.json
var files embed.FS

// Install gives what must be there before a proxy starts, wherever it runs, as one
// YAML stream: namespace, definitions of devices, rights, policies. An empty namespace means skerry-system.
//
// The last four, two policies, need Kubernetes 1.30. An older cluster refuses them; all
// else works without, with more rights for the proxy: policy.yaml says which.
func Install(namespace string) ([]byte, error) {
	if namespace == "" {
		namespace = defaultNamespace
	}
	if err := checkNamespace(namespace); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, name := range preparations() {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("embedded manifest: %w", err)
		}
		out.WriteString("---\n")
		out.Write(bytes.ReplaceAll(data, []byte(defaultNamespace), []byte(namespace)))
	}
	return out.Bytes(), nil
}

// Render gives all objects, the proxy's Deployment and Services too, as one YAML
// stream in the order in which they are to be applied.
func Render(namespace string, v Values) ([]byte, error) {
	if namespace == "" {
		namespace = defaultNamespace
	}
	if err := checkNamespace(namespace); err != nil {
		return nil, err
	}
	if err := v.check(); err != nil {
		return nil, err
	}
	tree, err := v.tree()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, name := range parts() {
		text, err := chartTemplate(name)
		if err != nil {
			return nil, err
		}
		data, err := execute(name, text, namespace, tree)
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(data)) == 0 {
			continue
		}
		out.WriteString("---\n")
		out.Write(data)
	}
	return out.Bytes(), nil
}

// checkNamespace: the name is pasted into YAML, so it must be a name and nothing else.
func checkNamespace(namespace string) error {
	if ok, err := regexp.MatchString(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`, namespace); err != nil || !ok {
		return fmt.Errorf("namespace %q is not a DNS label", namespace)
	}
	return nil
}
