package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

const protobuf = "application/vnd.kubernetes.protobuf"

// errLost is what a client sees of a connection that broke.
var errLost = errors.New("connection to the API server was lost")

// apiserver is one API server as one replica of the proxy sees it: it answers what
// client-go sends, late and wrong as the knobs say. Writes and reads of one object
// go to objects; lists and watches show what was there lag ago, as a watch cache that
// is behind does.
type apiserver struct {
	objects *objects

	mu      sync.Mutex // guards the following fields
	rng     *rand.Rand
	faults  float64       // share of requests that fail, one way or another
	latency time.Duration // the most that a request takes
	lag     time.Duration
	streams bool          // watch-lists are served
	broken  chan struct{} // closed when the watches of now end
}

func newAPIServer(s *objects, rng *rand.Rand) *apiserver {
	return &apiserver{objects: s, rng: rng, streams: rng.IntN(2) == 0, latency: 10 * time.Millisecond, broken: make(chan struct{})}
}

// client gives client-go's real client of a.
func (a *apiserver) client() (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfigAndClient(&rest.Config{
		Host: "http://api", QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: protobuf, AcceptContentTypes: protobuf},
	}, &http.Client{Transport: a})
}

// turn sets the knobs.
func (a *apiserver) turn(f func(a *apiserver)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a)
}

// breakWatches ends all watches.
func (a *apiserver) breakWatches() {
	a.turn(func(a *apiserver) { close(a.broken); a.broken = make(chan struct{}) })
}

// fate is what becomes of one request.
type fate struct {
	before, after time.Duration
	refused       error // instead of an answer
	status        error // instead of doing what was asked
	lost          bool  // the answer does not arrive
}

func (a *apiserver) draw() fate {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := fate{before: time.Duration(a.rng.Int64N(int64(a.latency) + 1)), after: time.Duration(a.rng.Int64N(int64(a.latency) + 1))}
	if a.rng.Float64() >= a.faults {
		return f
	}
	switch a.rng.IntN(9) {
	case 0:
		f.refused = errLost
	case 1:
		f.status = apierrors.NewTooManyRequests("slow down", []int{1, 1, 1, 30}[a.rng.IntN(4)])
	case 2:
		f.status = apierrors.NewInternalError(errors.New("etcd has no leader"))
	case 3:
		f.status = apierrors.NewConflict(schema.GroupResource{}, "something", errors.New("it has changed"))
	case 4:
		f.lost = true
	case 5:
		f.lost, f.after = true, 10*time.Second
	case 6:
		f.status = apierrors.NewServiceUnavailable("the API server is shutting down")
	case 7:
		f.status = apierrors.NewTimeoutError("request did not complete within the allotted time", 0)
	case 8: // by a webhook, a quota, or rights that are not there yet
		f.status = apierrors.NewForbidden(schema.GroupResource{}, "something", errors.New("not now"))
	}
	return f
}

// RoundTrip implements http.RoundTripper.
func (a *apiserver) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
	}
	ctx := req.Context()
	f := a.draw()
	if err := pass(ctx, f.before); err != nil {
		return nil, err
	}
	if f.refused != nil {
		return nil, f.refused
	}
	c, err := parse(req)
	if err != nil {
		return nil, err
	}
	q := req.URL.Query()
	if q.Get("watch") != "" && f.status == nil {
		return a.watch(req, c)
	}
	var answer runtime.Object
	err = f.status
	if err == nil {
		answer, err = a.serve(c, req, body)
	}
	if late := pass(ctx, f.after); late != nil {
		return nil, late
	}
	if f.lost {
		return nil, errLost
	}
	return respond(req, answer, err)
}

// pass lets d of virtual time pass.
func pass(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call is what a path asks for.
type call struct {
	id          id
	subresource string
	version     schema.GroupVersion
	selects     fields.Selector
	labels      labels.Selector
}

func parse(req *http.Request) (call, error) {
	var c call
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		c.version, parts = schema.GroupVersion{Version: parts[1]}, parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		c.version, parts = schema.GroupVersion{Group: parts[1], Version: parts[2]}, parts[3:]
	default:
		return c, fmt.Errorf("%s is not played here", req.URL.Path)
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		c.id.namespace, parts = parts[1], parts[2:]
	}
	parts = append(parts, "", "")
	c.id.resource, c.id.name, c.subresource = parts[0], parts[1], parts[2]
	var err error
	if c.selects, err = fields.ParseSelector(req.URL.Query().Get("fieldSelector")); err != nil {
		return c, err
	}
	c.labels, err = labels.Parse(req.URL.Query().Get("labelSelector"))
	return c, err
}

// kind gives the kind of a resource.
func (c *call) kind() string {
	for _, kind := range []string{
		"Pod", "ConfigMap", "Secret", "Node", "Event", "Lease", "Namespace", "ServiceAccount",
		"PersistentVolumeClaim", "PersistentVolume", "RuntimeClass", "Endpoints", "Service", "ClusterTrustBundle", "PodCertificateRequest",
	} {
		plural, _ := meta.UnsafeGuessKindToResource(c.version.WithKind(kind))
		if plural.Resource == c.id.resource {
			return kind
		}
	}
	panic(c.id.resource + " is not played here")
}

// shows says whether a list or watch shows o.
func (c *call) shows(o object) bool {
	if o == nil || c.id.namespace != "" && c.id.namespace != o.GetNamespace() || !c.labels.Matches(labels.Set(o.GetLabels())) {
		return false
	}
	set := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
	switch o := o.(type) {
	case *corev1.Pod:
		set["spec.nodeName"], set["status.phase"] = o.Spec.NodeName, string(o.Status.Phase)
	case *corev1.Secret:
		set["type"] = string(o.Type)
	}
	return c.selects.Matches(set)
}

// encode works on a copy, since an encoder writes the kind into the object.
func encode(o runtime.Object) ([]byte, error) {
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	if err != nil {
		return nil, err
	}
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), protobuf)
	return runtime.Encode(scheme.Codecs.EncoderForVersion(info.Serializer, kinds[0].GroupVersion()), o.DeepCopyObject())
}

func respond(req *http.Request, o runtime.Object, failed error) (*http.Response, error) {
	r := &http.Response{StatusCode: http.StatusOK, Request: req, Header: http.Header{"Content-Type": {protobuf}}}
	if failed != nil {
		var status apierrors.APIStatus
		if !errors.As(failed, &status) {
			return nil, failed
		}
		s := status.Status()
		r.StatusCode, o = int(s.Code), &s
		if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
			r.Header.Set("Retry-After", strconv.Itoa(int(s.Details.RetryAfterSeconds)))
		}
	}
	b, err := encode(o)
	if err != nil {
		return nil, err
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	return r, nil
}

func decode[T runtime.Object](body []byte, into T) (T, error) {
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, into)
	if err != nil {
		return into, apierrors.NewBadRequest(err.Error())
	}
	got, ok := o.(T)
	if !ok {
		return into, apierrors.NewBadRequest(fmt.Sprintf("body is a %T", o))
	}
	return got, nil
}

func (a *apiserver) serve(c call, req *http.Request, body []byte) (runtime.Object, error) {
	switch req.Method {
	case http.MethodGet:
		if c.id.name == "" {
			return a.list(c, req.URL.Query().Get("resourceVersion"))
		}
		if o := a.objects.get(c.id); o != nil {
			return o, nil
		}
		return nil, apierrors.NewNotFound(c.id.group(), c.id.name)
	case http.MethodPost:
		if c.subresource == "token" {
			return a.token(c, body)
		}
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		made, ok := o.(object)
		if err != nil || !ok {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("body is a %T: %v", o, err))
		}
		c.id.name = made.GetName()
		return a.objects.create(c.id, made)
	case http.MethodPatch:
		return a.objects.update(c.id, c.subresource, func(o object) (object, error) {
			return patched(o, types.PatchType(req.Header.Get("Content-Type")), body)
		})
	case http.MethodDelete:
		opt, err := decode(body, &metav1.DeleteOptions{})
		if err != nil {
			return nil, err
		}
		return a.objects.remove(c.id, opt)
	}
	return nil, apierrors.NewMethodNotSupported(c.id.group(), req.Method)
}

// list gives what is there, or what was lag ago when any version will do.
func (a *apiserver) list(c call, rv string) (runtime.Object, error) {
	at := time.Now()
	if rv == "0" {
		a.turn(func(a *apiserver) { at = at.Add(-a.lag) })
	}
	found, version := a.objects.all(c.id.resource, at)
	var items []runtime.Object
	for _, o := range found {
		if c.shows(o) {
			items = append(items, o)
		}
	}
	list, err := scheme.Scheme.New(c.version.WithKind(c.kind() + "List"))
	if err != nil {
		return nil, err
	}
	if err := meta.SetList(list, items); err != nil {
		return nil, err
	}
	l, err := meta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	l.SetResourceVersion(strconv.FormatUint(version, 10))
	return list, nil
}

func (a *apiserver) token(c call, body []byte) (runtime.Object, error) {
	tr, err := decode(body, &authenticationv1.TokenRequest{})
	if err != nil {
		return nil, err
	}
	ref := tr.Spec.BoundObjectRef
	o := a.objects.get(id{"pods", c.id.namespace, ref.Name})
	if o == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, ref.Name)
	}
	if o.GetUID() != ref.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, ref.Name, errors.New("it has another UID"))
	}
	expiry := time.Now().Add(time.Duration(*tr.Spec.ExpirationSeconds) * time.Second).Truncate(time.Second)
	tr.Status = authenticationv1.TokenRequestStatus{Token: string(ref.UID), ExpirationTimestamp: metav1.NewTime(expiry)}
	return tr, nil
}
