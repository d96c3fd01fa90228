package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func newDevice() *cobra.Command {
	cmd := group("device", "Find, onboard, read and write field devices, through the tunnel",
		deviceDiscover(newDevices()), deviceBrowse(newDevices()), deviceOnboard(newDevices()), deviceImport(newDevices()),
		deviceGet(newDevices()), deviceRead(newDevices()), deviceWrite(newDevices()), deviceCall(newDevices()), deviceTrust(newDevices()))
	cmd.Aliases = []string{"devices", "dev"}
	cmd.Long = `Find, onboard, read and write field devices, through the tunnel: no VPN, and nobody
on site. The edge does it. The cloud proxy's log says what was asked of which device,
the cluster's audit log by whom.

  skerry device discover --node edge-1 --url opc.tcp://plc:4840    what is there
  skerry device onboard  --node edge-1 --url opc.tcp://plc:4840    what would be made of it
  skerry device onboard  --node edge-1 --url opc.tcp://plc:4840 --apply
  skerry device read press-1 Speed                                 as it is now

discover, browse, onboard, write and call need the right to create nodes/proxy, read
to get it.`
	return cmd
}

// devices is what the commands below `skerry device` have in common.
type devices struct {
	cluster
	output string
}

func newDevices() *devices { return &devices{cluster: cluster{patient: true}} }

// addFlags adds those of all commands; outputs are the forms of output.
func (d *devices) addFlags(f *pflag.FlagSet, outputs string) {
	f.StringVar(&d.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default $KUBECONFIG, then ~/.kube/config")
	f.StringVar(&d.context, "context", "", "kubeconfig context; default the current one")
	f.StringVarP(&d.namespace, "namespace", "n", "", "namespace of the Devices; default the context's")
	f.StringVarP(&d.output, "output", "o", "", outputs)
}

// prepare checks what was given.
func (d *devices) prepare(cmd *cobra.Command) error {
	if !slices.Contains([]string{"", "json", "yaml"}, d.output) {
		return badUsage(cmd, "--output %q is neither json nor yaml", d.output)
	}
	if d.namespace == "" {
		d.namespace = d.contextNamespace()
	}
	return nil
}

func (d *devices) resource(name string) (dynamic.ResourceInterface, error) { //nolint:ireturn // client-go's
	client, err := d.dynamic()
	if err != nil {
		return nil, err
	}
	return client.Resource(v1alpha1.GroupVersion().WithResource(name)).Namespace(d.namespace), nil
}

// device gets a Device.
func (d *devices) device(ctx context.Context, name string) (*v1alpha1.Device, error) {
	client, err := d.resource(v1alpha1.Devices)
	if err != nil {
		return nil, err
	}
	got, err := client.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) && !noDefinitions(err) {
			return nil, fmt.Errorf("there is no Device %s in namespace %s; next: 'skerry device get -n %s' lists those that are", name, d.namespace, d.namespace)
		}
		return nil, explainDefinitions(fmt.Errorf("get Device %s: %w", name, err))
	}
	dev := &v1alpha1.Device{}
	return dev, into(got, dev)
}

// listOf gives all Devices, or models, of the namespace that the labels select.
func listOf[T any](ctx context.Context, d *devices, resource, selector string) ([]T, error) {
	client, err := d.resource(resource)
	if err != nil {
		return nil, err
	}
	got, err := client.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, explainDefinitions(fmt.Errorf("list %s: %w", resource, err))
	}
	out := make([]T, len(got.Items))
	for i := range got.Items {
		if err := into(&got.Items[i], &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// into decodes by JSON: some fields have methods of their own for that.
func into(from *unstructured.Unstructured, to any) error {
	b, err := from.MarshalJSON()
	if err != nil {
		return fmt.Errorf("read %s %s: %w", from.GetKind(), from.GetName(), err)
	}
	if err := json.Unmarshal(b, to); err != nil {
		return fmt.Errorf("read %s %s: %w", from.GetKind(), from.GetName(), err)
	}
	return nil
}

// noDefinitions tells a cluster without Devices from one without that Device.
func noDefinitions(err error) bool {
	return strings.Contains(err.Error(), "could not find the requested resource") || strings.Contains(err.Error(), "page not found")
}

func explainDefinitions(err error) error {
	if err != nil && noDefinitions(err) {
		return fmt.Errorf("this cluster does not know Devices (%w); next: 'skerry init' upgrades Skerry there, with the definitions", err)
	}
	return err
}
