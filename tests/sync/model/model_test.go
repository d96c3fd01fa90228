package model

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/skerry-io/skerry/tunnel/wire"
)

var (
	modelSeeds = flag.Int("seeds", 50, "schedules that TestModel plays")
	modelFirst = flag.Uint64("first", 1, "the first of them")
	modelSeed  = flag.Uint64("seed", 0, "the one schedule that TestModel plays")
	tunnelled  = flag.Uint64("tunnel", 2, "every how many schedules one goes through the tunnel, the others over pipes; 0 is none")
)

// TestMain takes away client-go's handlers of errors. One of them sleeps until the
// time of the error before, which was in another bubble, decades later.
func TestMain(m *testing.M) {
	flag.Parse()
	utilruntime.ErrorHandlers = nil
	os.Exit(m.Run())
}

// TestModel plays random schedules of what may happen to a cloud and an edge. In the end the edge must hold exactly what the
// API says, and the API must say exactly what the edge did; on the way no pod may
// be killed that is wanted, and no status go back. A schedule that fails is played
// again with -seed; which goroutine runs first is not in it, so it may take a few.
func TestModel(t *testing.T) {
	if *modelSeed != 0 {
		synctest.Test(t, func(t *testing.T) { play(t, *modelSeed) })
		return
	}
	failed := 0
	for i := range *modelSeeds {
		seed := *modelFirst + uint64(i)
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, seed) })
		}) {
			failed++
		}
		if failed > 5 {
			t.Fatal("more than five failed")
		}
	}
}

// world is all that one schedule plays with.
type world struct {
	*testing.T
	rng      *rand.Rand
	objects  *objects
	ledger   *ledger
	line     way
	edge     *edge
	replicas []*replica // the last one has the edge
	trace    []string
}

// wait lets virtual time pass, and then all others come to rest.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func play(t *testing.T, seed uint64) {
	t.Helper()
	w := &world{T: t, rng: rand.New(rand.NewPCG(seed, 7)), objects: newObjects(), ledger: newLedger(t)}
	w.line = newLine(time.Duration(w.rng.IntN(150)) * time.Millisecond)
	if *tunnelled > 0 && seed%*tunnelled == 0 {
		w.line = newTunnels(t, rand.New(rand.NewPCG(seed, 10)))
	}
	w.objects.written = w.ledger.written
	w.edge = newEdge(t, rand.New(rand.NewPCG(seed, 8)), w.line, w.objects, w.ledger)
	w.takeover()
	w.edge.start()
	for range 40 + w.rng.IntN(60) {
		w.step()
		if !w.edge.powered() {
			wait(time.Duration(w.rng.IntN(2000)) * time.Millisecond)
			w.edge.restart(false)
			w.line.mend()
		}
	}
	w.settle()
	w.check()
	w.edge.halt()
	w.line.set(nil)
	for _, r := range w.replicas {
		r.halt()
	}
	if t.Failed() {
		for _, line := range w.trace {
			t.Log(line)
		}
		t.Logf("seed %d: go test -run TestModel ./tests/sync/model -seed %d -tunnel %d", seed, seed, *tunnelled)
	}
}

// settle ends all faults, has the edge do what is left to do, and waits.
func (w *world) settle() {
	w.edge.arm(0)
	if !w.edge.powered() {
		w.edge.restart(false)
	}
	w.edge.leave(plenty)
	w.line.settle()
	w.heal()
	// Longer than any wait between two attempts.
	for i := range 3 {
		wait(70 * time.Second)
		w.ledger.beCalm()
		w.edge.insist()
		w.checkSteps()
		w.edge.act(i > 0)
		w.edge.bury()
		if i == 0 && w.rng.IntN(2) == 0 { // which nobody may notice
			w.takeover()
			w.heal()
		}
	}
	wait(70 * time.Second)
}

// heal gives all replicas an API server that works.
func (w *world) heal() {
	for _, r := range w.replicas {
		r.api.turn(func(a *apiserver) { a.faults, a.lag = 0, 0 })
		r.api.breakWatches()
	}
}

// check compares what there is with what should be.
func (w *world) check() {
	w.checkSteps()
	if diff := cmp.Diff(w.want(), w.edge.has()); diff != "" {
		w.Errorf("edge (-want +got):\n%s", diff)
	}
	w.ledger.check(w.objects)
	if st := w.edge.client.Stats(); !st.Synced || st.Rejected > 0 {
		w.Errorf("desired: %+v", st)
	}
	if st := w.edge.store.Outbox().Stats(); st.Entries != 0 || st.Dropped > w.edge.dropped {
		w.Errorf("outbox: %+v", st)
	}
	w.checkNode()
}

// checkSteps compares how far the replica that has the edge says it is with how far
// it is.
func (w *world) checkSteps() {
	st, ok := w.current().publisher.Edge(node)
	objects, unapplied, unrunning := w.edge.behind()
	if !ok || !st.Synced || st.Objects != objects || st.Queued != 0 || st.Sent != st.Stored || st.Unstored.Objects != 0 ||
		st.Unapplied.Objects != unapplied || st.Unrunning.Objects != unrunning {
		w.Errorf("of %d objects %d are not applied and %d do not run, and the cloud says %t %+v", objects, unapplied, unrunning, ok, st)
	}
}

// checkNode looks at the Node of an edge that is there and well.
func (w *world) checkNode() {
	n, ok := w.objects.get(id{"nodes", "", node}).(*corev1.Node)
	if !ok || n.Status.Capacity.Pods().Value() != 110 {
		w.Errorf("node: %+v", n)
		return
	}
	if ready := readyOf(n); ready.Status != corev1.ConditionTrue {
		w.Errorf("node is not ready: %+v", ready)
	}
	lease, ok := w.objects.get(id{"leases", corev1.NamespaceNodeLease, node}).(*coordinationv1.Lease)
	if !ok || time.Since(lease.Spec.RenewTime.Time) > 20*time.Second {
		w.Errorf("lease: %+v", lease)
	}
}

// want gives what the edge must hold by what the API says.
func (w *world) want() map[string]string {
	want := make(map[string]string)
	if n, ok := w.objects.get(id{"nodes", "", node}).(*corev1.Node); ok {
		want[wire.ClusterKey(wire.ResourceNodes, node)] = nodeText(n)
	}
	pods, _ := w.objects.all("pods", time.Now())
	for _, o := range pods {
		pod, ok := o.(*corev1.Pod)
		if !ok || !wanted(pod) {
			continue
		}
		want[wire.ObjectKey(wire.ResourcePods, "default", pod.Name)] = podText(pod)
		if pod.Status.Phase == corev1.PodSucceeded {
			continue // names nothing any more
		}
		for _, k := range uses(pod) {
			w.wantNamed(want, k)
		}
		if links := w.links(); len(links) > 0 {
			want[wire.ClusterKey(wire.ResourceServiceLinks, "default")] = linksText(links)
		}
		want[wire.TokenKey("default", pod.Name, wire.TokenID(string(pod.UID), "", tokenSeconds))] = string(pod.UID)
	}
	return want
}

// links gives the services that pods are told of.
func (w *world) links() []corev1.Service {
	all, _ := w.objects.all("services", time.Now())
	var links []corev1.Service
	for _, o := range all {
		if s, ok := o.(*corev1.Service); ok {
			links = append(links, *s)
		}
	}
	slices.SortFunc(links, func(a, b corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	return links
}

// linksText is what pods are told of services.
func linksText(links []corev1.Service) string {
	var text string
	for i := range links {
		text += fmt.Sprint(links[i].Name, " ", links[i].Spec.ClusterIP, " ", links[i].Spec.Ports[0].Name, "\n")
	}
	return text
}

// nodeText is what an edge needs to know of its Node.
func nodeText(n *corev1.Node) string { return fmt.Sprint(n.UID, " ", n.Labels) }

// wantNamed adds an object that a pod names, and the volume that a claim is bound to.
func (w *world) wantNamed(want map[string]string, k id) {
	o := w.objects.get(k)
	if o == nil {
		return
	}
	key := wire.ObjectKey(wire.Resource(k.resource), k.namespace, k.name)
	if k.namespace == "" {
		key = wire.ClusterKey(wire.Resource(k.resource), k.name)
	}
	want[key] = text(o)
	if claim, ok := o.(*corev1.PersistentVolumeClaim); ok && claim.Spec.VolumeName != "" {
		w.wantNamed(want, idOf(volumes, claim.Spec.VolumeName))
	}
}

// wanted says whether the edge must hold a pod of the API's.
func wanted(pod *corev1.Pod) bool {
	gone := pod.DeletionTimestamp != nil && grace(pod) == 0 && pod.Status.Phase == corev1.PodSucceeded
	return pod.Spec.NodeName == node && !gone
}

// podText is what an edge needs to know of a pod.
func podText(pod *corev1.Pod) string {
	bears := 0
	for i := range pod.Spec.Tolerations {
		if pod.Spec.Tolerations[i].TolerationSeconds == nil {
			bears++
		}
	}
	return fmt.Sprint(pod.UID, " ", pod.Generation, bears, " ", pod.Spec.Containers[0].Image, pod.Labels, pod.Annotations, uses(pod), pod.DeletionTimestamp, grace(pod))
}
