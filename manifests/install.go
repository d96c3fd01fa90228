// Package manifests holds the Kubernetes objects that a cluster needs before the
// cloud proxy starts. They are plain files, good for kubectl apply as they are,
// and embedded so that the CLI installs exactly what the tests parse.
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

//go:embed *.yaml
var files embed.FS

// Install gives all objects as one YAML stream, the namespace first. An empty
// namespace means skerry-system.
func Install(namespace string) ([]byte, error) {
	if namespace == "" {
		namespace = defaultNamespace
	}
	// The name is pasted into YAML, so it must be a name and nothing else.
	if ok, err := regexp.MatchString(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`, namespace); err != nil || !ok {
		return nil, fmt.Errorf("namespace %q is not a DNS label", namespace)
	}
	var out bytes.Buffer
	for _, name := range []string{"namespace.yaml", "rbac.yaml"} {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("embedded manifest: %w", err)
		}
		out.WriteString("---\n")
		out.Write(bytes.ReplaceAll(data, []byte(defaultNamespace), []byte(namespace)))
	}
	return out.Bytes(), nil
}
