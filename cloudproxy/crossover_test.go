package cloudproxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/desired"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// attempts says for each frame how an edge could reach beyond its own node with it, and
// what shows that it can't: a test here, or why there is nothing to try.
func attempts() map[string]string {
	const (
		down    = "only the cloud sends it"
		session = "names no object and no node; TestForeignSessionIsNotResumed of package tunnel is about whose session it is"
		packet  = "in packets alone, whose keys are of the session's own handshake: TestPacketsAreSealed of package tunnel/link"
		exec    = "of a stream that the cloud opens: TestEdgesOpenNoOther"
	)
	return map[string]string{
		"Hello": "names no node: the certificate does; labels and taints that edges may not have are refused by package report",
		"Have":  "TestCrossOver", "Digest": "TestCrossOver", "Ack": "TestCrossOver", "Progress": "TestCrossOver", "Report": "TestCrossOver",
		"Outbox":  "names the edge's own store",
		"Welcome": down, "Upsert": down, "Delete": down, "Synced": down, "ReportAck": down, "Resend": down, "Want": down,
		"StreamOpen": session, "StreamData": session, "StreamAck": session, "StreamAbort": session, "Resume": session,
		"GoAway": session, "Ping": session, "Pong": session, "Goodbye": session,
		"PacketAck": packet, "PacketProbe": packet,
		"ExecRequest": exec, "Data": exec, "Resize": exec, "CloseInput": exec, "Exit": exec, "Error": exec, "ForwardRequest": exec,
	}
}

// TestEveryFrameIsThoughtOf fails for a frame that attempts does not know.
func TestEveryFrameIsThoughtOf(t *testing.T) {
	dir := filepath.Join("..", "tunnel", "wire")
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, f.Name()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "appendPayload" && fn.Recv != nil {
				if star, ok := fn.Recv.List[0].Type.(*ast.StarExpr); ok {
					if name, ok := star.X.(*ast.Ident); ok {
						found = append(found, name.Name)
					}
				}
			}
		}
	}
	slices.Sort(found)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(attempts())), found); diff != "" {
		t.Errorf("frames (-thought of +there):\n%s", diff)
	}
}

func crossNode(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: "uid-of-node", Labels: map[string]string{report.LabelEdge: "true"}, Annotations: map[string]string{report.AnnotationOwner: "cloudproxy"},
	}}
}

// crossPod is a pod with a Secret, a ConfigMap and a token, all of its name, and with a
// certificate.
func crossPod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-of-it", ResourceVersion: "1"},
		Spec: corev1.PodSpec{NodeName: node, ServiceAccountName: name, Volumes: []corev1.Volume{
			{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}},
			{Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}},
			{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
				{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/ca", KeyType: "ECDSAP256"}},
			}}}},
		}},
	}
}

// crossing is a cloud with the nodes mine and yours, and the session of the former.
type crossing struct {
	t      *testing.T
	client *fake.Clientset
	enroll *enroll.Service
	edge   *tunnel.Session
}

func inCrossing(t *testing.T, f func(c *crossing)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &crossing{t: t}
		objects := []k8sruntime.Object{
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: tunneltest.Cluster}},
			crossNode("mine"), crossNode("yours"), crossPod("mine", "mine"), crossPod("yours", "yours"),
			&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "yours"}, Source: corev1.EventSource{Host: "yours"}, Count: 1},
		}
		for _, name := range []string{"mine", "yours"} {
			objects = append(objects, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "a"}})
			objects = append(objects, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "s", ResourceVersion: "1"}},
				&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "c", ResourceVersion: "1"}})
		}
		c.client = fake.NewClientset(objects...)
		pub, err := desired.New(desired.Config{Client: c.client})
		must(t, err)
		rec, err := report.New(report.Config{Client: c.client, PodsOf: pub.PodsOf, Pod: func(ns, name string) *corev1.Pod {
			pod, _ := pub.Pod(ns, name)
			return pod
		}})
		must(t, err)
		c.enroll, err = enroll.New(enroll.Config{Client: c.client, Advertise: []string{"a:1"}, ManagedNode: report.Owned})
		must(t, err)
		must(t, c.enroll.Prepare(t.Context()))
		n := tunneltest.New(t, tunneltest.Options{RTT: 10 * time.Millisecond})
		reg, err := registry.New(registry.Config{Listener: n.Listener()})
		must(t, err)
		reg.Handle(wire.KindDesired, pub.Serve)
		reg.Handle(wire.KindReport, rec.Serve)
		reg.Handle(wire.KindRenewal, c.enroll.ServeRenewal)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- reg.Run(ctx) }()
		go func() { done <- pub.Run(ctx) }()
		synctest.Wait()
		c.edge, err = n.Dial(t.Context(), "mine", 1)
		must(t, err)
		c.client.ClearActions()
		f(c)
		_ = c.edge.Close(wire.CodeOK, "")
		cancel()
		for range 2 {
			<-done
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writes are the requests so far that change something.
func (c *crossing) writes() []string {
	var list []string
	for _, a := range c.client.Actions() {
		if slices.Contains([]string{"get", "list", "watch"}, a.GetVerb()) {
			continue
		}
		name := ""
		switch a := a.(type) {
		case clienttesting.PatchAction:
			name = a.GetName()
		case clienttesting.DeleteAction:
			name = a.GetName()
		case clienttesting.CreateActionImpl:
			name = a.Name
			switch o := a.Object.(type) {
			case *corev1.Event:
				name = o.InvolvedObject.Name
			case *certificatesv1.PodCertificateRequest:
				name = o.Spec.PodName
			}
		}
		list = append(list, strings.Join(strings.Fields(a.GetVerb()+" "+a.GetResource().Resource+" "+a.GetSubresource()+" "+name), " "))
	}
	slices.Sort(list)
	return list
}

// open gives a stream and all that comes on it.
func (c *crossing) open(kind wire.Kind) (io.WriteCloser, func() []wire.Frame) {
	c.t.Helper()
	st, err := c.edge.Open(c.t.Context(), kind)
	must(c.t, err)
	got := make(chan []wire.Frame, 1)
	go func() {
		var frames []wire.Frame
		r := wire.NewReader(bufio.NewReader(st), 1<<20)
		for {
			f, err := r.Next()
			if err != nil {
				got <- frames
				return
			}
			frames = append(frames, f)
		}
	}()
	return st, func() []wire.Frame {
		tunneltest.Pass(5 * time.Second)
		_ = st.Close()
		return <-got
	}
}

func marshal(t *testing.T, o interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	b, err := o.Marshal()
	must(t, err)
	return b
}

// crossCertificate asks for a certificate for a pod.
func crossCertificate(t *testing.T, name, signer string) *wire.Report {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	return &wire.Report{Subject: wire.SubjectCertificate, Key: wire.CertificateKey("default", name, "t", 1), Value: marshal(t, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default"},
		Spec: certificatesv1.PodCertificateRequestSpec{
			PodName: name, PodUID: "uid-of-it", NodeName: "yours", ServiceAccountName: "yours", SignerName: signer, StubPKCS10Request: der,
		},
	})}
}

// TestCrossOver: with a session of its own node, an edge tries to act for another.
func TestCrossOver(t *testing.T) {
	yours := crossPod("yours", "yours")
	yours.Status.Phase = corev1.PodFailed
	claimed := crossPod("yours", "mine") // says that it is ours
	claimed.Status.Phase = corev1.PodFailed
	static := crossPod("static", "yours")
	static.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	static.Spec.Volumes, static.Spec.ServiceAccountName = nil, ""
	event := func(kind, ns, name string) *corev1.Event {
		return &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "yours"},
			InvolvedObject: corev1.ObjectReference{Kind: kind, Namespace: ns, Name: name, UID: "uid-of-it"}, Count: 7, Reason: "x",
		}
	}
	fresh := event("Node", "", "mine")
	fresh.Name, fresh.Source.Host = "new", "yours"
	reports := func(list ...*wire.Report) []wire.Frame {
		var frames []wire.Frame
		for i, r := range list {
			r.Seq = uint64(i + 1)
			frames = append(frames, r)
		}
		return frames
	}
	unlike := &wire.Digest{Buckets: []wire.Bucket{{Sum: [8]byte{1}}}} // so that the cloud asks for all
	have := []wire.Entry{
		{Key: "pods/default/yours", Version: "uid-of-it/0"},
		{Key: "secrets/default/yours", Version: "s/0"},
		{Key: "configmaps/default/yours", Version: "c/0"},
		{Key: wire.TokenKey("default", "yours", wire.TokenID("uid-of-it", "", 3600)), Version: "uid-of-it/0"},
	}
	for _, tt := range []struct {
		name   string
		kind   wire.Kind
		frames []wire.Frame
		writes []string // that are allowed
		told   []string // keys that may come down with something in them
	}{
		{"Report: the status of another's pod", wire.KindReport, reports(
			&wire.Report{Subject: wire.SubjectPod, Key: "pods/default/yours", Value: marshal(t, yours)},
			&wire.Report{Subject: wire.SubjectPod, Key: "pods/default/mine", Value: marshal(t, claimed)},
		), nil, nil},
		{"Report: the end of another's pod", wire.KindReport, reports(
			&wire.Report{Subject: wire.SubjectPodGone, Key: "pods/default/yours", Value: []byte("uid-of-it")},
		), nil, nil},
		{"Report: the status of a node", wire.KindReport, reports(
			&wire.Report{Subject: wire.SubjectNode, Key: "yours", Value: marshal(t, &corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{MachineID: "m"}})},
		), []string{"patch nodes mine", "patch nodes status mine"}, nil},
		{"Report: events about others", wire.KindReport, reports(
			&wire.Report{Subject: wire.SubjectEvent, Key: "a", Value: marshal(t, event("Node", "", "yours"))},
			&wire.Report{Subject: wire.SubjectEvent, Key: "b", Value: marshal(t, event("Pod", "default", "yours"))},
			&wire.Report{Subject: wire.SubjectEvent, Key: "c", Value: marshal(t, event("Secret", "default", "yours"))},
			&wire.Report{Subject: wire.SubjectEvent, Key: "d", Value: marshal(t, event("Pod", "kube-system", "mine"))},
		), nil, nil},
		{"Report: an event that is another's", wire.KindReport, reports(
			&wire.Report{Subject: wire.SubjectEvent, Key: "e", Value: marshal(t, event("Node", "", "mine"))},
		), []string{"create events mine"}, nil}, // the create fails: the name is taken
		{"Report: an event in another's name", wire.KindReport, reports(
			&wire.Report{Subject: wire.SubjectEvent, Key: "f", Value: marshal(t, fresh)},
		), []string{"create events mine"}, nil},
		{"Report: a static pod of another node", wire.KindReport, reports(
			&wire.Report{Subject: wire.SubjectStaticPod, Key: "pods/default/yours", Value: marshal(t, claimed)},
		), nil, nil},
		{"Report: another's pod as one's own", wire.KindReport, reports(
			&wire.Report{Subject: wire.SubjectStaticPods, Value: []byte("pods/default/yours uid-of-it\n")},
			&wire.Report{Subject: wire.SubjectStaticPods, Value: nil}, // and then none
		), nil, nil},
		{"Report: a certificate for another's pod, and one that its own does not want", wire.KindReport, reports(
			crossCertificate(t, "yours", "example.com/ca"),
			crossCertificate(t, "mine", "kubernetes.io/kube-apiserver-client-pod"),
		), nil, nil},
		{"Report: a certificate that its own pod wants", wire.KindReport, reports(
			crossCertificate(t, "mine", "example.com/ca"),
		), []string{"create podcertificaterequests mine"}, nil},
		{
			"Have: what is another's", wire.KindDesired,
			[]wire.Frame{unlike, &wire.Have{Entries: have, Last: true}},
			[]string{"create serviceaccounts token mine"},
			[]string{"pods/default/mine", "nodes/mine", "secrets/default/mine", "configmaps/default/mine", "tokens/default/mine"},
		},
		{
			"Ack, Progress: of another's objects", wire.KindDesired,
			[]wire.Frame{
				unlike, &wire.Have{Last: true}, &wire.Ack{Seq: 1, Step: wire.Step(3)}, &wire.Ack{Seq: 1 << 40, Step: wire.Step(3)},
				&wire.Progress{Entries: []wire.Advance{{Key: "pods/default/yours", Step: wire.Step(3)}, {Key: "secrets/default/yours", Step: wire.Step(3)}}},
			},
			[]string{"create serviceaccounts token mine"},
			[]string{"pods/default/mine", "nodes/mine", "secrets/default/mine", "configmaps/default/mine", "tokens/default/mine"},
		},
		{
			"Digest: as if it held what is another's", wire.KindDesired,
			[]wire.Frame{&wire.Digest{Buckets: make([]wire.Bucket, 4)}, &wire.Have{Last: true}},
			[]string{"create serviceaccounts token mine"},
			[]string{"pods/default/mine", "nodes/mine", "secrets/default/mine", "configmaps/default/mine", "tokens/default/mine"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inCrossing(t, func(c *crossing) {
				w, got := c.open(tt.kind)
				for _, f := range tt.frames {
					_ = wire.Write(w, f) // what was said before may have ended the stream
				}
				own := len(tt.told) == 0
				for _, f := range got() {
					up, ok := f.(*wire.Upsert)
					own = own || ok && up.Key == tt.told[0]
					if ok && !slices.ContainsFunc(tt.told, func(k string) bool { return strings.HasPrefix(up.Key, k) }) {
						c.t.Errorf("was told %s", up.Key)
					}
				}
				if !own {
					c.t.Errorf("was not told %s, so this tries nothing", tt.told[0])
				}
				for _, write := range c.writes() {
					if !slices.Contains(tt.writes, write) {
						c.t.Errorf("a write that is not its own: %s", write)
					}
				}
				c.unharmed()
			})
		})
	}
}

// unharmed looks at what is another's.
func (c *crossing) unharmed() {
	c.t.Helper()
	ctx := c.t.Context()
	if pod, err := c.client.CoreV1().Pods("default").Get(ctx, "yours", metav1.GetOptions{}); err != nil || pod.Status.Phase != "" {
		c.t.Errorf("the other's pod: %v, %v", pod.Status.Phase, err)
	}
	if node, err := c.client.CoreV1().Nodes().Get(ctx, "yours", metav1.GetOptions{}); err != nil || node.Status.NodeInfo.MachineID != "" {
		c.t.Errorf("the other's node: %v, %v", node.Status.NodeInfo, err)
	}
	events, err := c.client.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
	must(c.t, err)
	asked, err := c.client.CertificatesV1().PodCertificateRequests("").List(ctx, metav1.ListOptions{})
	must(c.t, err)
	for _, req := range asked.Items {
		if s := req.Spec; s.PodName != "mine" || s.NodeName != "mine" || s.ServiceAccountName != "mine" || s.SignerName != "example.com/ca" {
			c.t.Errorf("a certificate: %+v", s)
		}
	}
	for _, ev := range events.Items {
		if ev.Name == "yours" && ev.Count != 1 || ev.Name != "yours" && ev.Source.Host != "mine" {
			c.t.Errorf("an event: %+v", ev)
		}
	}
}

// TestEdgesOpenNoOther: an edge opens streams of three kinds, whose handlers take the
// name of its node from the session. All others are the cloud's to open.
func TestEdgesOpenNoOther(t *testing.T) {
	inCrossing(t, func(c *crossing) {
		for kind := range wire.Kind(64) {
			if slices.Contains([]wire.Kind{wire.KindDesired, wire.KindReport, wire.KindRenewal}, kind) {
				continue
			}
			st, err := c.edge.Open(c.t.Context(), kind)
			must(c.t, err)
			_, _ = st.Write([]byte("GET /pods HTTP/1.1\r\nHost: yours\r\n\r\n"))
			_, err = io.ReadAll(st)
			if e, ok := errors.AsType[*tunnel.StreamError](err); !ok || e.Code != wire.CodeUnsupported || !e.Remote {
				c.t.Errorf("%s: %v", kind, err)
			}
			_ = st.Close()
		}
		if w := c.writes(); len(w) != 0 {
			c.t.Error(w)
		}
	})
}

// TestCrossRenewal: a session of one node renews nothing of another's, though it had the
// other's key; and of a renewal's answer nothing is another's.
func TestCrossRenewal(t *testing.T) {
	inCrossing(t, func(c *crossing) {
		request := func(node string) []byte {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			must(c.t, err)
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
			must(c.t, err)
			csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
			cert, err := c.enroll.CA().SignEdge(csr, certs.Identity{Cluster: tunneltest.Cluster, Node: node}, 0)
			must(c.t, err)
			b, err := json.Marshal(certs.RenewRequest{Certificate: string(cert), CSR: string(csr)})
			must(c.t, err)
			return b
		}
		for node, granted := range map[string]bool{"mine": true, "yours": false} {
			st, err := c.edge.Open(c.t.Context(), wire.KindRenewal)
			must(c.t, err)
			_, err = st.Write(request(node))
			must(c.t, err)
			must(c.t, st.CloseWrite())
			b, err := io.ReadAll(st)
			must(c.t, err)
			var a certs.RenewAnswer
			must(c.t, json.NewDecoder(bytes.NewReader(b)).Decode(&a))
			if (a.Granted != nil) != granted || !granted && a.Refused.Code != certs.CodeUnauthorized {
				c.t.Errorf("%s: %s", node, b)
			}
		}
	})
}
