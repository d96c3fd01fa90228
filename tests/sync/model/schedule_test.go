package model

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/cloudproxy/report"
)

const tokenSeconds = 3607

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// step does one thing at random, and waits at times.
func (w *world) step() {
	moves := []struct {
		share int
		move  func()
	}{
		{10, w.makePod},
		{6, w.alterPod},
		{6, w.deletePod},
		{3, w.replacePod},
		{3, w.release},
		{10, w.writeNamed},
		{3, w.deleteNamed},
		{1, w.burst},
		{20, w.speak},
		{6, w.act},
		{5, w.bury},
		{5, w.buryAndReplace},
		{3, w.cutLine},
		{3, w.cutLater},
		{2, w.resetLine},
		{2, w.strandCloud},
		{4, w.mendLine},
		{3, w.crashEdge},
		{3, w.crashLater},
		{1, w.restartEdge},
		{2, w.crashCloud},
		{2, w.takeover},
		{3, w.breakAPI},
		{4, w.healAPI},
		{1, w.breakWatches},
		{8, w.rest},
		{1, w.sleep},
		{2, w.replaceMany},
		{1, w.chatter},
		{1, w.rejoin},
		{3, w.fillDisk},
		{2, w.clearDisk},
		{1, w.freezeReplica},
	}
	total := 0
	for _, m := range moves {
		total += m.share
	}
	n := w.rng.IntN(total)
	for _, m := range moves {
		if n -= m.share; n < 0 {
			m.move()
			break
		}
	}
	if w.rng.IntN(3) == 0 {
		wait(time.Duration(w.rng.IntN(100)) * time.Millisecond)
	}
}

func (w *world) create(resource, namespace string, o object) {
	if _, err := w.objects.create(id{resource, namespace, o.GetName()}, o); err != nil {
		w.Fatal(err)
	}
}

func (w *world) podID() id { return id{"pods", "default", fmt.Sprint("pod-", w.rng.IntN(5))} }

// named are the resources that pods name.
var named = []string{"configmaps", "configmaps", "configmaps", "secrets", "secrets", "secrets", claims, claims, volumes, "runtimeclasses", "services"}

const claims, volumes = "persistentvolumeclaims", "persistentvolumes"

func (w *world) namedID() id {
	resource := named[w.rng.IntN(len(named))]
	if resource == claims && w.rng.IntN(4) == 0 {
		return idOf(claims, w.podID().name+"-scratch")
	}
	return idOf(resource, fmt.Sprint(resource, "-", w.rng.IntN(4)))
}

// idOf gives an object that pods name, or a volume of theirs.
func idOf(resource, name string) id {
	if resource == volumes || resource == "runtimeclasses" {
		return id{resource, "", name}
	}
	return id{resource, "default", name}
}

// pod gives the pod under a random name, or nil.
func (w *world) pod() *corev1.Pod {
	pod, _ := w.objects.get(w.podID()).(*corev1.Pod)
	return pod
}

func podIDOf(pod *corev1.Pod) id { return id{"pods", pod.Namespace, pod.Name} }

func (w *world) makePod() {
	k := w.podID()
	if w.objects.get(k) != nil {
		return
	}
	seconds, patience := int64(tokenSeconds), int64(report.DefaultTolerationSeconds)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: k.namespace, Name: k.name}, Spec: corev1.PodSpec{
		NodeName: []string{node, node, node, node, node, node, "edge-2", ""}[w.rng.IntN(8)],
		Containers: []corev1.Container{{
			Name: "main", Image: "busybox",
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: reference(w.rng, "configmaps")}}},
		}},
		Volumes: []corev1.Volume{
			{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: reference(w.rng, "secrets").Name}}},
			{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: reference(w.rng, "configmaps")}},
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: &seconds, Path: "token"}},
			}}}},
		},
	}}
	if w.rng.IntN(2) == 0 {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: reference(w.rng, claims).Name},
		}})
	}
	if w.rng.IntN(4) == 0 {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{
			Ephemeral: &corev1.EphemeralVolumeSource{},
		}})
	}
	if w.rng.IntN(4) == 0 {
		pod.Spec.RuntimeClassName = new(reference(w.rng, "runtimeclasses").Name)
	}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} { // as admission does
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &patience,
		})
	}
	if w.rng.IntN(6) == 0 {
		pod.Finalizers = []string{"example.com/hold"}
	}
	w.create(k.resource, k.namespace, pod)
	w.note("make %s on %q", k.name, pod.Spec.NodeName)
}

func reference(rng *rand.Rand, resource string) corev1.LocalObjectReference {
	return corev1.LocalObjectReference{Name: fmt.Sprint(resource, "-", rng.IntN(4))}
}

// uses gives what a pod of makePod names.
func uses(pod *corev1.Pod) (all []id) {
	for _, from := range pod.Spec.Containers[0].EnvFrom {
		all = append(all, idOf("configmaps", from.ConfigMapRef.Name))
	}
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.Secret != nil:
			all = append(all, idOf("secrets", v.Secret.SecretName))
		case v.Projected != nil:
			all = append(all, idOf("configmaps", v.Projected.Sources[0].ConfigMap.Name))
		case v.PersistentVolumeClaim != nil:
			all = append(all, idOf(claims, v.PersistentVolumeClaim.ClaimName))
		case v.Ephemeral != nil:
			all = append(all, idOf(claims, pod.Name+"-"+v.Name))
		}
	}
	if class := pod.Spec.RuntimeClassName; class != nil {
		all = append(all, idOf("runtimeclasses", *class))
	}
	return all
}

// change alters an object, if it is still there.
func (w *world) change(k id, alter func(o object)) {
	_, err := w.objects.update(k, "", func(o object) (object, error) { alter(o); return o, nil })
	if err != nil && !apierrors.IsNotFound(err) {
		w.Fatal(err)
	}
}

// alterPod changes what may change of a pod, or binds one that waits.
func (w *world) alterPod() {
	pod := w.pod()
	if pod == nil {
		return
	}
	w.change(podIDOf(pod), func(o object) {
		p, ok := o.(*corev1.Pod)
		switch {
		case !ok:
		case p.Spec.NodeName == "":
			p.Spec.NodeName = node
		case w.rng.IntN(2) == 0:
			p.Spec.Containers[0].Image = fmt.Sprint("busybox:", w.rng.IntN(100))
		default:
			p.Annotations = map[string]string{"n": fmt.Sprint(w.rng.IntN(100))}
		}
	})
	w.note("alter %s", pod.Name)
}

func (w *world) deletePod() {
	if pod := w.pod(); pod != nil {
		w.remove(pod, w.rng.IntN(4) == 0)
	}
}

func (w *world) remove(pod *corev1.Pod, force bool) {
	opt := &metav1.DeleteOptions{}
	if force {
		opt.GracePeriodSeconds = new(int64)
	} else if w.rng.IntN(2) == 0 {
		opt.GracePeriodSeconds = new(1 + w.rng.Int64N(120))
	}
	w.ledger.mu.Lock()
	w.ledger.forced[pod.UID] = true
	w.ledger.mu.Unlock()
	_, err := w.objects.remove(podIDOf(pod), opt)
	w.note("delete %s, %s: force %t, %v", pod.Name, pod.UID, force, err)
}

// replacePod has another pod take the name at once.
func (w *world) replacePod() {
	if pod := w.pod(); pod != nil {
		w.replace(pod)
	}
}

func (w *world) replace(pod *corev1.Pod) {
	if len(pod.Finalizers) > 0 {
		return
	}
	w.remove(pod, true)
	next := pod.DeepCopy()
	next.ObjectMeta = metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}
	next.Status = corev1.PodStatus{}
	next.Spec.NodeName = []string{node, node, "edge-2", ""}[w.rng.IntN(4)]
	w.create("pods", pod.Namespace, next)
	w.note("make %s again on %q", next.Name, next.Spec.NodeName)
}

// release takes the finalizers off a pod.
func (w *world) release() {
	if pod := w.pod(); pod != nil && len(pod.Finalizers) > 0 {
		w.change(podIDOf(pod), func(o object) { o.SetFinalizers(nil) })
		w.note("release %s", pod.Name)
	}
}

func (w *world) writeNamed() { w.write(w.namedID()) }

func (w *world) write(k id) {
	text := fmt.Sprint(w.rng.IntN(1000))
	if w.rng.IntN(10) == 0 {
		text += string(make([]byte, 20<<10))
	}
	volume := ""
	if w.rng.IntN(2) == 0 {
		volume = reference(w.rng, volumes).Name
	}
	if w.objects.get(k) != nil {
		w.change(k, func(o object) { fill(o, text, volume) })
		return
	}
	m := metav1.ObjectMeta{Namespace: k.namespace, Name: k.name}
	var o object
	switch k.resource {
	case "configmaps":
		o = &corev1.ConfigMap{ObjectMeta: m}
	case "secrets":
		o = &corev1.Secret{ObjectMeta: m}
	case claims:
		o = &corev1.PersistentVolumeClaim{ObjectMeta: m}
	case volumes:
		o = &corev1.PersistentVolume{ObjectMeta: m}
	case "services":
		o = &corev1.Service{ObjectMeta: m, Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1"}}
	default:
		o = &nodev1.RuntimeClass{ObjectMeta: m}
	}
	fill(o, text, volume)
	w.create(k.resource, k.namespace, o)
}

// fill writes text into an object. A claim that waits is bound to volume, if that is
// not empty.
func fill(o object, text, volume string) {
	switch o := o.(type) {
	case *corev1.ConfigMap:
		o.Data = map[string]string{"key": text}
	case *corev1.Secret:
		o.Data = map[string][]byte{"key": []byte(text)}
	case *corev1.PersistentVolumeClaim:
		o.Annotations = map[string]string{"key": text}
		if o.Spec.VolumeName == "" {
			o.Spec.VolumeName = volume
		}
	case *corev1.PersistentVolume:
		o.Annotations = map[string]string{"key": text}
	case *nodev1.RuntimeClass:
		o.Handler = text
	case *corev1.Service:
		o.Spec.Ports = []corev1.ServicePort{{Name: text[:min(len(text), 8)], Port: 1}}
	}
}

// text tells what fill has written.
func text(o object) string {
	switch o := o.(type) {
	case *corev1.ConfigMap:
		return short(o.UID, o.Data["key"])
	case *corev1.Secret:
		return short(o.UID, string(o.Data["key"]))
	case *corev1.PersistentVolumeClaim:
		return short(o.UID, o.Spec.VolumeName+" "+o.Annotations["key"])
	case *corev1.PersistentVolume:
		return short(o.UID, o.Annotations["key"])
	case *nodev1.RuntimeClass:
		return short(o.UID, o.Handler)
	}
	panic(fmt.Sprintf("nobody names a %T", o))
}

// short tells an object from others.
func short(uid types.UID, data string) string {
	return fmt.Sprintf("%s %d %.20s", uid, len(data), strings.TrimRight(data, "\x00"))
}

func (w *world) deleteNamed() {
	k := w.namedID()
	_, err := w.objects.remove(k, &metav1.DeleteOptions{})
	w.note("delete %s: %v", k.name, err)
}

func (w *world) burst() {
	k := w.namedID()
	for range 30 {
		w.write(k)
	}
}

// speak has the workers of pods say something.
func (w *world) speak() {
	pods := w.edge.pods()
	for range 1 + w.rng.IntN(4) {
		if len(pods) == 0 {
			return
		}
		pod := pods[w.rng.IntN(len(pods))]
		switch n := w.rng.IntN(40); {
		case n == 0:
			w.edge.status(pod, corev1.PodSucceeded)
			w.note("%s has finished", pod.UID)
		case n < 20:
			w.edge.status(pod, corev1.PodRunning)
			w.note("%s runs, %d", pod.UID, w.ledger.said)
		default:
			w.edge.event(pod)
		}
	}
}

// act has workers act upon what the edge holds.
func (w *world) act() {
	synctest.Wait()
	if w.edge.powered() {
		w.edge.act(false)
	}
}

// chatter has a pod say more than there is room for on the way.
func (w *world) chatter() {
	pods := w.edge.pods()
	if len(pods) == 0 {
		return
	}
	pod := pods[w.rng.IntN(len(pods))]
	for range 200 {
		if w.rng.IntN(3) == 0 {
			w.edge.status(pod, corev1.PodRunning)
		} else {
			w.edge.event(pod)
		}
	}
	w.note("%s chatters", pod.UID)
}

func (w *world) bury() { w.edge.bury() }

// buryAndReplace deletes a pod, and has another take its name while the word of its
// end is on its way.
func (w *world) buryAndReplace() {
	pods := w.edge.pods()
	if len(pods) == 0 {
		return
	}
	pod := pods[w.rng.IntN(len(pods))]
	if now, ok := w.objects.get(podIDOf(pod)).(*corev1.Pod); !ok || now.UID != pod.UID || len(now.Finalizers) > 0 {
		return
	}
	w.remove(pod, false)
	wait(time.Duration(w.rng.IntN(500)) * time.Millisecond)
	w.edge.bury()
	wait(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	if now, ok := w.objects.get(podIDOf(pod)).(*corev1.Pod); ok && now.UID == pod.UID {
		w.replace(now)
	}
}
