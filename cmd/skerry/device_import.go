package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/skerry-io/skerry/devices/onboard"
)

// maxImport bounds a file of objects, in bytes.
const maxImport = 64 << 20

func deviceImport(d *devices) *cobra.Command {
	var file, node string
	var a applying
	cmd := &cobra.Command{
		Use:   "import -f FILE",
		Short: "Take over KubeEdge's DeviceModels and Devices",
		Long: `Make DeviceModels and Devices of those of KubeEdge (` + onboard.KubeEdgeVersion + `), from
YAML or JSON. What has no place here is told, with what to do about it: read that before
you apply. The objects in KubeEdge's cluster are not touched.`,
		Example: `  # what KubeEdge has
  kubectl get devicemodels.devices.kubeedge.io,devices.devices.kubeedge.io -A -o yaml > kubeedge.yaml

  # what would be made of it
  skerry device import -f kubeedge.yaml

  # and for another edge than it names
  skerry device import -f kubeedge.yaml --node edge-1 --apply`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.prepare(cmd); err != nil {
				return err
			}
			if file == "" {
				return badUsage(cmd, "--filename is required; - is standard input")
			}
			in, closeFile, err := openInput(cmd, file)
			if err != nil {
				return err
			}
			defer closeFile()
			objects, err := readDocuments(in)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			r, err := onboard.KubeEdge(objects, onboard.Into{Namespace: d.namespace, Node: node, Name: "kubeedge"})
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			return a.finish(cmd, d, r, "kubeedge")
		},
	}
	d.addFlags(cmd.Flags(), "yaml or json: the objects themselves; what would change when empty")
	cmd.Flags().StringVarP(&file, "filename", "f", "", "`file` with KubeEdge's objects, YAML or JSON; - is standard input")
	cmd.Flags().StringVar(&node, "node", "", "edge for all of them; default the node that each names")
	a.addFlags(cmd.Flags())
	return cmd
}

// readDocuments gives the documents of a YAML file as JSON.
func readDocuments(r io.Reader) ([][]byte, error) {
	limited := &io.LimitedReader{R: r, N: maxImport}
	docs := utilyaml.NewYAMLReader(bufio.NewReader(limited))
	var out [][]byte
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if limited.N <= 0 {
			return nil, fmt.Errorf("it has more than %d bytes", maxImport)
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		j, err := yaml.YAMLToJSON(doc)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		if string(j) != "null" {
			out = append(out, j)
		}
	}
}
