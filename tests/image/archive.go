package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
)

// Archive builds an image of one layer in the format that "docker save" writes and
// runtimes import.
func Archive(ref string, p Process, files []File) ([]byte, error) {
	layer, err := tarball(files)
	if err != nil {
		return nil, err
	}
	digest := hexSum(layer)
	config, err := json.Marshal(p.config([]string{"sha256:" + digest}))
	if err != nil {
		return nil, err
	}
	configName, layerName := hexSum(config)+".json", digest+".tar"
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{ref}, "Layers": []string{layerName}}})
	if err != nil {
		return nil, err
	}
	return tarball([]File{
		{Path: configName, Mode: 0o644, Data: config},
		{Path: layerName, Mode: 0o644, Data: layer},
		{Path: "manifest.json", Mode: 0o644, Data: manifest},
	})
}

func tarball(files []File) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := WriteFiles(files...)(w); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}
