package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	clouddesired "github.com/skerry-io/skerry/cloudproxy/desired"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/store"
)

func newDevices() *dynamicfake.FakeDynamicClient {
	return dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		v1alpha1.GroupVersion().WithResource(v1alpha1.Devices):      "DeviceList",
		v1alpha1.GroupVersion().WithResource(v1alpha1.DeviceModels): "DeviceModelList",
	})
}

func (a *api) resource(plural string) dynamic.ResourceInterface {
	return a.devices.Resource(v1alpha1.GroupVersion().WithResource(plural)).Namespace("default")
}

// defined makes an object of a definition; spec is JSON.
func (a *api) defined(kind, name, spec string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	text := fmt.Sprintf(`{"apiVersion":"devices.skerry.io/v1alpha1","kind":%q,"metadata":{"namespace":"default","name":%q,"generation":1},"spec":%s}`, kind, name, spec)
	if err := json.Unmarshal([]byte(text), u); err != nil {
		a.t.Fatal(err)
	}
	var m metav1.ObjectMeta
	a.stamp(&m)
	u.SetUID(m.UID)
	u.SetResourceVersion(m.ResourceVersion)
	return u
}

func deviceSpec(node, model, secret string) string {
	return fmt.Sprintf(`{"nodeName":%q,"modelRef":{"name":%q},"protocol":{"opcua":{"endpoint":"opc.tcp://plc:4840","user":{"secretName":%q}}}}`, node, model, secret)
}

func (a *api) createDefined(ctx context.Context, plural string, u *unstructured.Unstructured) {
	a.t.Helper()
	if _, err := a.resource(plural).Create(ctx, u, metav1.CreateOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

// changeDevice does what the API server does: a change of the spec is a generation.
func (a *api) changeDevice(ctx context.Context, name string, change func(u *unstructured.Unstructured)) {
	a.t.Helper()
	u, err := a.resource(v1alpha1.Devices).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	before, _ := json.Marshal(u.Object["spec"])
	change(u)
	after, _ := json.Marshal(u.Object["spec"])
	if string(before) != string(after) {
		u.SetGeneration(u.GetGeneration() + 1)
	}
	m := metav1.ObjectMeta{UID: u.GetUID()}
	a.stamp(&m)
	u.SetResourceVersion(m.ResourceVersion)
	if _, err := a.resource(v1alpha1.Devices).Update(ctx, u, metav1.UpdateOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

func (a *api) setSpec(ctx context.Context, name, field string, value any) {
	a.t.Helper()
	a.changeDevice(ctx, name, func(u *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(u.Object, value, "spec", field); err != nil {
			a.t.Fatal(err)
		}
	})
}

func (a *api) createSecret(ctx context.Context, name string) {
	a.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	a.stamp(&s.ObjectMeta)
	if _, err := a.CoreV1().Secrets("default").Create(ctx, s, metav1.CreateOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

// plant makes two models and two Secrets, a Device of each of two edges, and waits.
func (a *api) plant(ctx context.Context) {
	a.t.Helper()
	for _, name := range []string{"motor", "pump"} {
		a.createDefined(ctx, v1alpha1.DeviceModels, a.defined("DeviceModel", name, `{"properties":[{"name":"speed","type":"int32"}]}`))
	}
	a.createSecret(ctx, "login")
	a.createSecret(ctx, "other")
	a.createDefined(ctx, v1alpha1.Devices, a.defined("Device", "press", deviceSpec(node, "motor", "login")))
	a.createDefined(ctx, v1alpha1.Devices, a.defined("Device", "far", deviceSpec("edge-2", "pump", "other")))
}

func (e *edge) see(t *testing.T, what string, want ...string) {
	t.Helper()
	wait(time.Second)
	var keys []string
	if err := e.store.Versions("", func(entry store.Entry) bool { keys = append(keys, entry.Key); return true }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

const press, motor, login = "devices/default/press", "devicemodels/default/motor", "secrets/default/login"

// TestDevices: an edge gets the Devices of its own node, what they name, and each change
// of a spec; what it reports itself doesn't come back.
func TestDevices(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		a.plant(ctx)
		e.see(t, "made", motor, press, login)
		o, err := e.store.Get(press)
		if err != nil {
			t.Fatal(err)
		}
		var d v1alpha1.Device
		if err := json.Unmarshal(o.Value, &d); err != nil || d.Name != "press" || d.UID == "" || d.Generation != 1 || d.Spec.Protocol.OPCUA == nil {
			t.Errorf("the edge has %s: %v", o.Value, err)
		}
		if want := string(d.UID) + "/1"; o.Version != want {
			t.Errorf("version %q, want %q", o.Version, want)
		}
		l.counts()
		a.changeDevice(ctx, "press", func(u *unstructured.Unstructured) { u.Object["status"] = map[string]any{"summary": "1/1 good"} })
		a.changeDevice(ctx, "press", func(u *unstructured.Unstructured) { u.SetLabels(map[string]string{"a": "b"}) })
		wait(time.Second)
		if got := l.counts(); len(got) != 0 {
			t.Errorf("a status and a label sent %v", got)
		}
		a.changeDevice(ctx, "press", func(u *unstructured.Unstructured) { u.Object["spec"] = rawSpec(t, deviceSpec(node, "pump", "other")) })
		e.see(t, "it names others", "devicemodels/default/pump", press, "secrets/default/other")
		l.reconnect(t, time.Second)
		a.setSpec(ctx, "press", "nodeName", "edge-2")
		e.see(t, "moved away")
		a.setSpec(ctx, "far", "nodeName", node)
		e.see(t, "another moved here", "devicemodels/default/pump", "devices/default/far", "secrets/default/other")
		if err := a.resource(v1alpha1.Devices).Delete(ctx, "far", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		e.see(t, "deleted")
	})
}

func rawSpec(t *testing.T, spec string) (out map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(spec), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDevicesStayWhileTheAPIIsSilent: by the cache's word alone nothing is taken from an
// edge, and pods don't wait for an answer about Devices.
func TestDevicesStayWhileTheAPIIsSilent(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "devices"}, "", errors.New("old roles"))
	unserved := apierrors.NewGenericServerResponse(404, "get", schema.GroupResource{Resource: "devices"}, "press", "404 page not found", 0, true)
	for name, refusal := range map[string]error{"forbidden": forbidden, "not served": unserved} {
		t.Run(name, func(t *testing.T) {
			var silent atomic.Bool
			run(t, func(ctx context.Context, a *api, _ *link, e *edge) {
				a.devices.PrependReactor("get", "devices", func(clienttesting.Action) (bool, runtime.Object, error) {
					return silent.Load(), nil, refusal
				})
				a.plant(ctx)
				e.see(t, "made", motor, press, login)
				silent.Store(true)
				if err := a.resource(v1alpha1.Devices).Delete(ctx, "press", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				e.see(t, "nobody answers", motor, press, login)
				a.createPod(ctx, testPod("beside"))
				wait(time.Second)
				if _, err := e.store.Get("pods/default/beside"); err != nil {
					t.Errorf("a pod waits for Devices: %v", err)
				}
				if err := a.CoreV1().Pods("default").Delete(ctx, "beside", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				silent.Store(false)
				wait(time.Minute)
				e.see(t, "the API has answered")
			})
		})
	}
}

// TestDevicesComeLate: a replica that may not read Devices, or whose cluster does not
// define them, takes nothing of what an edge holds, Secrets and models among it; and
// when they are there, it goes on.
func TestDevicesComeLate(t *testing.T) {
	for name, refusal := range map[string]error{
		"not served": apierrors.NewGenericServerResponse(404, "list", schema.GroupResource{Resource: "devices"}, "", "404 page not found", 0, true),
		"forbidden":  apierrors.NewForbidden(schema.GroupResource{Resource: "devices"}, "", errors.New("old roles")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { devicesComeLate(t, refusal) })
		})
	}
}

func devicesComeLate(t *testing.T, refusal error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, e := newAPI(t), newEdge(t)
	var silent atomic.Bool
	a.devices.PrependReactor("list", "devices", func(clienttesting.Action) (bool, runtime.Object, error) { return silent.Load(), nil, refusal })
	a.plant(ctx)
	first, stop := context.WithCancel(ctx)
	p, wg := publisher(first, t, a)
	l := newLink(first, p.Serve)
	e.start(ctx, l)
	e.see(t, "made", motor, press, login)
	e.halt()
	stop()
	l.cut()
	wg.Wait()
	l.wg.Wait()

	// The next replica.
	silent.Store(true)
	if err := a.resource(v1alpha1.Devices).Delete(ctx, "press", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	a.createSecret(ctx, "unused")
	p, wg = publisher(ctx, t, a)
	l = newLink(ctx, p.Serve)
	e.start(ctx, l)
	e.see(t, "nothing is known", motor, press, login)
	silent.Store(false)
	wait(time.Minute)
	e.see(t, "all is known")
	a.createDefined(ctx, v1alpha1.Devices, a.defined("Device", "press", deviceSpec(node, "motor", "login")))
	e.see(t, "made anew", motor, press, login)
	e.halt()
	cancel()
	l.cut()
	wg.Wait()
	l.wg.Wait()
}

// TestManyDevicesAreDismissedByOneList: what an edge holds and the API lacks costs one
// list, not a read for each that it names.
func TestManyDevicesAreDismissedByOneList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a, e := newAPI(t), newEdge(t)
		for i := range 40 {
			a.createDefined(ctx, v1alpha1.Devices, a.defined("Device", fmt.Sprintf("d%02d", i), deviceSpec(node, "motor", "")))
		}
		first, stop := context.WithCancel(ctx)
		p, wg := publisher(first, t, a)
		l := newLink(first, p.Serve)
		e.start(ctx, l)
		wait(time.Second)
		e.halt()
		stop()
		l.cut()
		wg.Wait()
		l.wg.Wait()
		for i := range 39 {
			if err := a.resource(v1alpha1.Devices).Delete(ctx, fmt.Sprintf("d%02d", i), metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		p, wg = publisher(ctx, t, a)
		a.devices.ClearActions()
		l = newLink(ctx, p.Serve)
		e.start(ctx, l)
		e.see(t, "all but one are gone", "devices/default/d39")
		reads := make(map[string]int)
		for _, action := range a.devices.Actions() {
			reads[action.GetVerb()]++
		}
		if reads["list"] != 1 || reads["get"] > 0 {
			t.Errorf("it cost %v", reads)
		}
		e.halt()
		cancel()
		l.cut()
		wg.Wait()
		l.wg.Wait()
	})
}

// TestDeviceOfAnEdgeThatIsAway: its condition says so, and is as it was when the edge is
// back, which has nothing new to say.
func TestDeviceOfAnEdgeThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a := newAPI(t)
		a.plant(ctx)
		connected := map[string]any{"type": "Connected", "status": "True", "reason": "Connected", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
		a.changeDevice(ctx, "press", func(u *unstructured.Unstructured) {
			u.Object["status"] = map[string]any{"summary": "1/1 good", "conditions": []any{connected}}
		})
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{"skerry.io/edge": "true"}, Annotations: map[string]string{"skerry.io/owner": "cloudproxy"}}}
		ready := func(status corev1.ConditionStatus, message string) {
			t.Helper()
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Message: message}}
			a.stamp(&n.ObjectMeta)
			_, err := a.CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{})
			if apierrors.IsNotFound(err) {
				_, err = a.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			wait(10 * time.Second)
		}
		p, wg := publisher(ctx, t, a)
		c, err := clouddesired.NewConditions(clouddesired.Config{Client: a, Dynamic: a.devices, Log: logger()}, p)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = c.Run(ctx) })
		synctest.Wait() // the fake's watches may begin after its lists
		conditions := func(name string) string {
			t.Helper()
			u, err := a.resource(v1alpha1.Devices).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			var text []string
			for _, c := range list {
				m, _ := c.(map[string]any)
				text = append(text, fmt.Sprint(m["type"], " ", m["status"], " ", m["reason"]))
			}
			return strings.Join(text, ", ")
		}
		check := func(name, want string) {
			t.Helper()
			if got := conditions(name); got != want {
				t.Errorf("%s has conditions %q, want %q", name, got, want)
			}
		}
		ready(corev1.ConditionTrue, "")
		check("press", "Connected True Connected")
		check("far", "Connected Unknown NoSuchEdge")
		a.devices.ClearActions()
		ready(corev1.ConditionUnknown, "no session since 2026-01-02T00:00:00Z")
		check("press", "skerry.io/ConnectedBefore True Connected, Connected Unknown EdgeOffline")
		wait(time.Hour)
		writes := 0
		for _, action := range a.devices.Actions() {
			if action.GetVerb() == "patch" {
				writes++
			}
		}
		if writes != 1 {
			t.Errorf("an outage cost %d writes", writes)
		}
		ready(corev1.ConditionTrue, "")
		check("press", "Connected True Connected")
		cancel()
		wg.Wait()
	})
}
