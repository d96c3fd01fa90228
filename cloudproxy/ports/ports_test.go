package ports

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// newClient is a fake API that refuses to write over what somebody else wrote.
func newClient() *fake.Clientset {
	client := fake.NewClientset()
	var mu sync.Mutex
	version := 0
	client.PrependReactor("*", "configmaps", func(a clienttesting.Action) (bool, runtime.Object, error) {
		w, ok := a.(clienttesting.CreateAction)
		if !ok {
			return false, nil, nil
		}
		cm, ok := w.GetObject().(*corev1.ConfigMap)
		if !ok {
			return false, nil, nil
		}
		mu.Lock()
		defer mu.Unlock()
		if a.GetVerb() == "update" && cm.ResourceVersion != fmt.Sprint(version) {
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "configmaps"}, cm.Name, nil)
		}
		old, err := client.Tracker().Get(a.GetResource(), a.GetNamespace(), cm.Name)
		if a.GetVerb() == "create" && err == nil && old != nil {
			return true, nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "configmaps"}, cm.Name)
		}
		version++
		cm = cm.DeepCopy()
		cm.ResourceVersion = fmt.Sprint(version)
		if a.GetVerb() == "create" {
			return true, cm, client.Tracker().Create(a.GetResource(), cm, a.GetNamespace())
		}
		return true, cm, client.Tracker().Update(a.GetResource(), cm, a.GetNamespace())
	})
	return client
}

func newPorts(t *testing.T, client *fake.Clientset, r Range) *Ports {
	t.Helper()
	p, err := New(Config{Client: client, Namespace: "ns", Range: r})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t *testing.T, p *Ports) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

func port(t *testing.T, p *Ports, node string) int {
	t.Helper()
	n, err := p.Port(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// TestReplicas: what one gives, all know; nothing is given twice, even when all
// give at once; and a restart changes nothing.
func TestReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		replicas := []*Ports{newPorts(t, client, Range{20000, 20099}), newPorts(t, client, Range{20000, 20099}), newPorts(t, client, Range{20000, 20099})}
		// The fake API forgets what comes between an informer's list and its watch.
		port(t, replicas[0], "first")
		for _, p := range replicas {
			run(t, p)
		}
		const nodes = 12
		var wg sync.WaitGroup
		for i, p := range replicas {
			for n := range nodes {
				// Two replicas each: an edge that moves from one to another.
				if n%3 != i {
					wg.Go(func() {
						if _, err := p.Port(t.Context(), fmt.Sprint("n", n)); err != nil {
							t.Error(err)
						}
					})
				}
			}
		}
		wg.Wait()
		synctest.Wait()
		late := newPorts(t, client, Range{20000, 20099})
		run(t, late)
		seen := map[int]string{}
		for n := range nodes {
			node := fmt.Sprint("n", n)
			want := port(t, late, node)
			if seen[want] != "" {
				t.Errorf("port %d is given to %s and %s", want, seen[want], node)
			}
			seen[want] = node
			for i, p := range append(replicas, late) {
				if got, ok := p.Node(want); !ok || got != node {
					t.Errorf("replica %d: port %d is of %q, want %s", i, want, got, node)
				}
				if got := port(t, p, node); got != want {
					t.Errorf("replica %d: %s has port %d, want %d", i, node, got, want)
				}
			}
		}
		if all, _ := late.Ports(); len(all) != nodes+1 {
			t.Errorf("%d ports: %v", len(all), all)
		}
	})
}

func TestChanged(t *testing.T) {
	p := newPorts(t, newClient(), Range{20000, 20001})
	_, changed := p.Ports()
	got := port(t, p, "a")
	<-changed
	all, changed := p.Ports()
	if len(all) != 1 || all[0] != got {
		t.Errorf("ports %v, want %d", all, got)
	}
	port(t, p, "a")
	select {
	case <-changed:
		t.Error("nothing has changed")
	default:
	}
}

// TestFull: the ports of Nodes that are gone are given again, others never.
func TestFull(t *testing.T) {
	client := newClient()
	p := newPorts(t, client, Range{20000, 20001})
	a, b := port(t, p, "a"), port(t, p, "b")
	for _, node := range []string{"a", "b"} {
		if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Port(t.Context(), "c"); err == nil || !strings.Contains(err.Error(), "--node-ports") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
	if err := client.CoreV1().Nodes().Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := port(t, p, "c"); got != a {
		t.Errorf("c has port %d, want %d", got, a)
	}
	if got := port(t, p, "b"); got != b {
		t.Errorf("b has port %d, want %d as before", got, b)
	}
}

// TestWhatPeopleWrite: a ConfigMap that makes no sense gives nobody another's port.
func TestWhatPeopleWrite(t *testing.T) {
	client := newClient()
	_, err := client.CoreV1().ConfigMaps("ns").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: ConfigMapName},
		Data:       map[string]string{"a": "20001", "b": "20001", "c": "many", "d": "80", "e": "20002"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := newPorts(t, client, Range{20000, 20009})
	got := map[int]string{}
	for _, node := range []string{"b", "c", "d", "a", "e"} {
		n := port(t, p, node)
		if got[n] != "" || !p.cfg.Range.Contains(n) {
			t.Errorf("%s has port %d, which is %q's", node, n, got[n])
		}
		got[n] = node
	}
	if got[20001] != "a" || got[20002] != "e" {
		t.Errorf("ports %v: a and e have lost theirs", got)
	}
}

func TestParseRange(t *testing.T) {
	for s, want := range map[string]Range{"20000-24999": {20000, 24999}, "2000-2000": {2000, 2000}} {
		if got, err := ParseRange(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "1", "20000", "20000-", "-5", "20001-20000", "80-90", "20000-70000", "a-b", "1-2-3"} {
		if got, err := ParseRange(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}
