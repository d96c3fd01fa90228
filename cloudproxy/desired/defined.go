package desired

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// defined is a Device or a DeviceModel as the cache keeps it: the bytes that are sent,
// and what is asked of it here. A status, which edges write each second, is not in it.
type defined struct {
	metav1.ObjectMeta
	body []byte
	// node and names are of a Device: the edge that it is of, and the keys of its
	// model and Secrets.
	node  string
	names []string
	// link is what the Device's status says of its edge.
	link linkState
}

// Marshal gives the object as it is sent: JSON, since it has no protobuf.
func (d *defined) Marshal() ([]byte, error) { return d.body, nil }

// version changes with the spec, and not with what edges report or people label.
func (d *defined) version() string {
	return string(d.UID) + "/" + strconv.FormatInt(d.Generation, 10)
}

// definedOf makes of an object of a definition what is kept of it.
func definedOf(u *unstructured.Unstructured) (*defined, error) {
	d := &defined{ObjectMeta: metav1.ObjectMeta{
		Namespace: u.GetNamespace(), Name: u.GetName(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(), Generation: u.GetGeneration(),
	}}
	var err error
	d.body, err = json.Marshal(map[string]any{
		"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "spec": u.Object["spec"],
		"metadata": map[string]any{"namespace": d.Namespace, "name": d.Name, "uid": d.UID, "generation": d.Generation},
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s %s/%s: %w", u.GetKind(), d.Namespace, d.Name, err)
	}
	if u.GetKind() != "Device" {
		return d, nil
	}
	d.node, _, _ = unstructured.NestedString(u.Object, "spec", "nodeName")
	d.link = linkStateOf(u)
	var device v1alpha1.Device
	_ = json.Unmarshal(d.body, &device) // of one that can't be read the edge says so
	if name := device.Spec.ModelRef.Name; name != "" {
		d.names = append(d.names, wire.ObjectKey(wire.ResourceDeviceModels, d.Namespace, name))
	}
	for _, name := range device.Spec.SecretNames() {
		d.names = append(d.names, wire.ObjectKey(wire.ResourceSecrets, d.Namespace, name))
	}
	return d, nil
}

// doubtful says whether what the cache has, nil for nothing, would take a device from an
// edge that holds a version of it, or give it an earlier one.
func (d *defined) doubtful(version, node string) bool {
	if d == nil || d.UID != versionUID(version) || d.node != node {
		return true
	}
	_, generation, _ := strings.Cut(version, "/")
	held, err := strconv.ParseInt(generation, 10, 64)
	return err != nil || held > d.Generation
}

// newDefined builds the watches of objects of definitions, none without a client.
func newDefined(client dynamic.Interface) map[wire.Resource]cache.SharedIndexInformer {
	if client == nil {
		return nil
	}
	informer := func(resource string, indexers cache.Indexers) cache.SharedIndexInformer {
		return dynamicinformer.NewFilteredDynamicInformer(client, v1alpha1.GroupVersion().WithResource(resource), metav1.NamespaceAll, 0, indexers, nil).Informer()
	}
	return map[wire.Resource]cache.SharedIndexInformer{
		wire.ResourceDevices:      informer(v1alpha1.Devices, cache.Indexers{byNode: indexByNode}),
		wire.ResourceDeviceModels: informer(v1alpha1.DeviceModels, cache.Indexers{}),
	}
}

// devicesOf gives the Devices of a node as the watch last saw them.
func (p *Publisher) devicesOf(node string) []*defined {
	informer := p.named[wire.ResourceDevices]
	if informer == nil {
		return nil
	}
	return indexed[*defined](informer, byNode, node)
}

// Device gives the node and the UID of a Device as the watch last saw it.
func (p *Publisher) Device(namespace, name string) (node string, uid types.UID, ok bool) {
	informer := p.named[wire.ResourceDevices]
	if informer == nil {
		return "", "", false
	}
	d := cached[*defined](informer, namespace, name)
	if d == nil {
		return "", "", false
	}
	return d.node, d.UID, true
}

// deviceChanged has a Device looked at by the stream of its edge.
func (p *Publisher) deviceChanged(o metav1.Object) {
	d, ok := o.(*defined)
	if !ok || d.node == "" {
		return
	}
	if s := p.nodes[d.node]; s != nil {
		s.mark(wire.ObjectKey(wire.ResourceDevices, d.Namespace, d.Name))
	}
}
