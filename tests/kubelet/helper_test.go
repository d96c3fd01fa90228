package kubelet

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"

	"go.uber.org/goleak"

	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// klog flushes for as long as the process lives.
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
		// spdystream keeps an error of closing for a second, in case somebody asks.
		goleak.IgnoreTopFunction("github.com/moby/spdystream.(*Connection).shutdown"),
		// client-go's WebSocket client leaves its pings behind when it is canceled.
		goleak.IgnoreTopFunction("k8s.io/client-go/tools/remotecommand.(*heartbeat).start"),
		// And the readers of its streams, if that comes between the last stream and the loop
		// that reads for them: the loop ends at its first call, and tells nobody.
		goleak.IgnoreAnyFunction("k8s.io/client-go/tools/remotecommand.(*stream).Read"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/tools/remotecommand.(*wsStreamExecutor).StreamWithContext.func1"),
	)
}

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	c := a.issue("ca", true)
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) issue(name string, ca bool) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"group"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: ca,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := tmpl, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// offlineError is what an edge without a session gives.
type offlineError struct{ since time.Time }

func (offlineError) Error() string                  { return "no session" }
func (e offlineError) Offline() (string, time.Time) { return "off", e.since }

// edges are real edges' kubelet APIs behind TCP, by node.
type edges struct {
	mu    sync.Mutex
	nodes map[string]map[wire.Kind]string
	open  []*edgeConn
	wrap  func(net.Conn) net.Conn // of streams that are opened from now on; may be nil
}

type edgeConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *edgeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *edgeConn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

func (e *edges) DialEdge(ctx context.Context, node string, kind wire.Kind) (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	addr, ok := e.nodes[node][kind]
	if !ok {
		return nil, fmt.Errorf("dial: %w", offlineError{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if e.wrap != nil {
		c = e.wrap(c)
	}
	ec := &edgeConn{Conn: c, closed: make(chan struct{})}
	e.open = append(e.open, ec)
	return ec, nil
}

// last waits until a stream is open, and returns the newest.
func (e *edges) last() *edgeConn {
	for {
		e.mu.Lock()
		open := slices.Clone(e.open)
		e.mu.Unlock()
		if len(open) > 0 {
			return open[len(open)-1]
		}
	}
}

// lister is a copy of pods that may be behind the API.
type lister struct {
	mu   sync.Mutex
	pods map[string]*corev1.Pod
}

func (l *lister) Pod(namespace, name string) (*corev1.Pod, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := l.pods[namespace+"/"+name]; ok {
		return p, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
}

func newPod(name, uid, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid)},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c"}}},
	}
}

// world is a running Server with the edge n1 and the pod default/p on it.
type world struct {
	t        *testing.T
	url      string
	ca       *authority // of serving and client certificates
	issuer   *authority // of the certificates of do's users
	client   *fake.Clientset
	lister   *lister
	edges    *edges
	edgePods *kubeletapitest.Pods // at n1
	log      *syncBuffer
	drain    func()
	stop     func()

	mu      sync.Mutex
	reviews []authorizationv1.SubjectAccessReviewSpec
	allow   func(authorizationv1.SubjectAccessReviewSpec) bool
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type settings struct {
	runtime kubeletapi.Runtime
	front   kubeletfront.Config
}

func start(t *testing.T, set settings) *world {
	t.Helper()
	w := &world{
		t: t, ca: newAuthority(t), log: &syncBuffer{}, lister: &lister{pods: map[string]*corev1.Pod{}},
		edges: &edges{nodes: map[string]map[wire.Kind]string{}},
		allow: func(authorizationv1.SubjectAccessReviewSpec) bool { return true },
	}
	w.issuer = w.ca
	w.client = fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "extension-apiserver-authentication"},
		Data:       map[string]string{"client-ca-file": string(w.ca.pem())},
	})
	reviews := w.reviewServer()
	w.edgePods = w.addEdge("n1", set.runtime)
	w.addPod(newPod("p", "u", "n1"))

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "https://" + ln.Addr().String()
	serving := w.ca.issue("serving", false)
	cfg := set.front
	cfg.Listener, cfg.Client, cfg.Pods, cfg.Edges = ln, &clientset{w.client, reviews}, w.lister, w.edges
	cfg.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &serving, nil }
	cfg.Log = slog.New(slog.NewTextHandler(w.log, nil))
	s, err := kubeletfront.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.drain = s.Drain
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.stop)
	// The client CA is known once its informer has run.
	for deadline := time.Now().Add(2 * time.Second); ; {
		status, body := w.get("/healthz", "")
		if status == http.StatusOK {
			return w
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %d %s\n%s", status, body, w.log)
		}
	}
}

// addEdge starts a real edge's kubelet API.
func (w *world) addEdge(node string, rt kubeletapi.Runtime) *kubeletapitest.Pods {
	w.t.Helper()
	pods := &kubeletapitest.Pods{}
	if rt == nil {
		rt = kubeletapitest.Runtime{}
	}
	s, err := kubeletapi.New(kubeletapi.Config{Pods: pods, Runtime: rt, MaxCommands: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	addrs := map[wire.Kind]string{}
	for kind, serve := range map[wire.Kind]func(context.Context, net.Listener) error{wire.KindExec: s.ServeExec, wire.KindKubelet: s.ServeKubelet, wire.KindForward: s.ServeForward} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.t.Fatal(err)
		}
		addrs[kind] = ln.Addr().String()
		wg.Go(func() {
			if err := serve(ctx, ln); err != nil {
				w.t.Error(err)
			}
		})
	}
	w.t.Cleanup(func() { cancel(); wg.Wait() })
	w.edges.mu.Lock()
	defer w.edges.mu.Unlock()
	w.edges.nodes[node] = addrs
	return pods
}

// addPod puts a pod into the API, the copy and the edge n1.
func (w *world) addPod(p *corev1.Pod) {
	w.t.Helper()
	if err := w.client.Tracker().Add(p); err != nil {
		w.t.Fatal(err)
	}
	w.lister.mu.Lock()
	defer w.lister.mu.Unlock()
	w.lister.pods[p.Namespace+"/"+p.Name] = p
	w.edgePods.Set(edgePod(p, ""))
}

func edgePod(p *corev1.Pod, log string) kubeletapi.Pod {
	return kubeletapi.Pod{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), SandboxID: "sandbox", Containers: []kubeletapi.Container{
		{Name: "c", State: kubeletapi.Running, Current: kubeletapi.Attempt{ID: "id", LogPath: log}},
	}}
}

// clientset is the fake one with reviews by HTTP: the delegating authenticator
// and authorizer use a REST client, which the fake does not have.
type clientset struct {
	*fake.Clientset
	reviews kubernetes.Interface
}

func (c *clientset) AuthenticationV1() authenticationclient.AuthenticationV1Interface {
	return c.reviews.AuthenticationV1()
}

func (c *clientset) AuthorizationV1() authorizationclient.AuthorizationV1Interface {
	return c.reviews.AuthorizationV1()
}

// reviewServer is the part of kube-apiserver that answers reviews.
func (w *world) reviewServer() kubernetes.Interface {
	w.t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", answer(reviewToken))
	mux.HandleFunc("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", answer(w.reviewAccess))
	srv := httptest.NewServer(mux)
	w.t.Cleanup(srv.Close)
	client, err := kubernetes.NewForConfigAndClient(&rest.Config{Host: srv.URL, QPS: -1}, srv.Client())
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

func answer[T any](f func(*T)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var review T
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f(&review)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(&review)
	}
}

// reviewToken knows the token "good".
func reviewToken(r *authenticationv1.TokenReview) {
	if r.Spec.Token == "good" {
		r.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "token-user"}}
	}
}

func (w *world) reviewAccess(r *authorizationv1.SubjectAccessReview) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reviews = append(w.reviews, r.Spec)
	r.Status.Allowed = w.allow(r.Spec)
}

// setAllow replaces the answer to access reviews and forgets those before.
func (w *world) setAllow(f func(authorizationv1.SubjectAccessReviewSpec) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.allow, w.reviews = f, nil
}

// config is a client with a certificate for user.
func (w *world) config(user string) *rest.Config {
	w.t.Helper()
	c := w.ca.issue(user, false)
	key, err := x509.MarshalECPrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		w.t.Fatal(err)
	}
	return &rest.Config{Host: w.url, TLSClientConfig: rest.TLSClientConfig{
		CAData:   w.ca.pem(),
		CertData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		KeyData:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
	}}
}

// do sends one request; header has names and values by turns. An empty user
// means kube-apiserver; "-" means no certificate.
func (w *world) do(method, path, user string, header ...string) *http.Response {
	w.t.Helper()
	return w.send(method, path, user, nil, header...)
}

// send is do with a body.
func (w *world) send(method, path, user string, body io.Reader, header ...string) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	pool := x509.NewCertPool()
	pool.AddCert(w.ca.cert)
	tc := &tls.Config{RootCAs: pool}
	if user != "-" {
		if user == "" {
			user = "kube-apiserver"
		}
		tc.Certificates = []tls.Certificate{w.issuer.issue(user, false)}
	}
	// HTTP/2 where kube-apiserver has it: wherever nothing is upgraded.
	tr := &http.Transport{TLSClientConfig: tc, DisableKeepAlives: true, ForceAttemptHTTP2: !slices.Contains(header, "Upgrade")}
	w.t.Cleanup(tr.CloseIdleConnections)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp
}

func (w *world) get(path, user string, header ...string) (int, string) {
	w.t.Helper()
	resp := w.do(http.MethodGet, path, user, header...)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
