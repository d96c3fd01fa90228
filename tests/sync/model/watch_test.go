package model

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	restwatch "k8s.io/client-go/rest/watch"
)

// watching is the body of the answer to a watch: events are made when they are
// read.
type watching struct {
	ctx    context.Context
	api    *apiserver
	call   call
	rv     uint64
	buf    bytes.Buffer
	out    *restwatch.Encoder
	broken <-chan struct{}
	closed chan struct{}
}

func (a *apiserver) watch(req *http.Request, c call) (*http.Response, error) {
	q := req.URL.Query()
	w := &watching{ctx: req.Context(), api: a, call: c, closed: make(chan struct{})}
	var streams, expired bool
	a.turn(func(a *apiserver) {
		w.broken, streams = a.broken, a.streams
		expired = a.rng.Float64() < a.faults/2
	})
	initial := q.Get("sendInitialEvents") == "true"
	switch rv := q.Get("resourceVersion"); {
	case initial && !streams:
		return respond(req, nil, apierrors.NewInvalid(schema.GroupKind{Kind: "ListOptions"}, "", nil))
	case rv != "" && rv != "0" && expired:
		return respond(req, nil, apierrors.NewResourceExpired("too old resource version"))
	case rv != "":
		var err error
		if w.rv, err = strconv.ParseUint(rv, 10, 64); err != nil {
			return nil, err
		}
	}
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), protobuf)
	w.out = restwatch.NewEncoder(
		streaming.NewEncoder(info.StreamSerializer.Framer.NewFrameWriter(&w.buf), scheme.Codecs.EncoderForVersion(info.StreamSerializer.Serializer, c.version)),
		scheme.Codecs.EncoderForVersion(info.Serializer, c.version))
	if initial {
		if err := w.begin(); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		StatusCode: http.StatusOK, Request: req, Body: w, ContentLength: -1,
		Header: http.Header{"Content-Type": {protobuf + ";stream=watch"}},
	}, nil
}

// begin sends what is there now, and the bookmark behind it.
func (w *watching) begin() error {
	found, rv := w.api.objects.all(w.call.id.resource, time.Now())
	for _, o := range found {
		if !w.call.shows(o) {
			continue
		}
		if err := w.out.Encode(&watch.Event{Type: watch.Added, Object: clone(o)}); err != nil {
			return err
		}
	}
	w.rv = rv
	o, err := scheme.Scheme.New(w.call.version.WithKind(w.call.kind()))
	if err != nil {
		return err
	}
	if m, ok := o.(object); ok {
		m.SetResourceVersion(strconv.FormatUint(rv, 10))
		m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return w.out.Encode(&watch.Event{Type: watch.Bookmark, Object: o})
}

// Read implements io.Reader.
func (w *watching) Read(p []byte) (int, error) {
	for w.buf.Len() == 0 {
		var lag time.Duration
		w.api.turn(func(a *apiserver) { lag = a.lag })
		changes, next, grown := w.api.objects.since(w.rv, time.Now().Add(-lag))
		for _, c := range changes {
			w.rv = c.rv
			if err := w.event(c); err != nil {
				return 0, err
			}
		}
		if w.buf.Len() > 0 {
			break
		}
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(time.Until(next.Add(lag)))
		}
		select {
		case <-grown:
		case <-due:
		case <-w.broken:
			return 0, io.EOF
		case <-w.closed:
			return 0, io.EOF
		case <-w.ctx.Done():
			return 0, w.ctx.Err()
		}
	}
	return w.buf.Read(p)
}

func (w *watching) event(c change) error {
	if c.id.resource != w.call.id.resource {
		return nil
	}
	was, is := w.call.shows(c.before), w.call.shows(c.after)
	switch {
	case is && !was:
		return w.out.Encode(&watch.Event{Type: watch.Added, Object: clone(c.after)})
	case is:
		return w.out.Encode(&watch.Event{Type: watch.Modified, Object: clone(c.after)})
	case was:
		last := clone(c.before)
		last.SetResourceVersion(strconv.FormatUint(c.rv, 10))
		return w.out.Encode(&watch.Event{Type: watch.Deleted, Object: last})
	}
	return nil
}

// Close implements io.Closer.
func (w *watching) Close() error {
	select {
	case <-w.closed:
	default:
		close(w.closed)
	}
	return nil
}
