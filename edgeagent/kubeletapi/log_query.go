package kubeletapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/skerry-io/skerry/edgeagent/kubeletapi/logs"
)

// queryError is a query that can't be served. A value that can't be read is 400,
// one that may not be is 422, as from the kubelet.
type queryError struct {
	status int
	text   string
}

func (e *queryError) Error() string { return e.text }

// logQuery is a request's query. Parameters that are not known are ignored, so
// that a newer kube-apiserver can add some.
type logQuery struct {
	options  logs.Options
	previous bool
}

func parseLogQuery(q url.Values, now time.Time) (logQuery, error) {
	p := queryParser{q: q}
	var out logQuery
	out.previous = p.bool("previous")
	out.options = logs.Options{
		Follow:     p.bool("follow"),
		Timestamps: p.bool("timestamps"),
		TailLines:  p.int("tailLines", 0),
		LimitBytes: p.int("limitBytes", 1),
		Stream:     p.stream(),
	}
	seconds, when := p.int("sinceSeconds", 1), p.time("sinceTime")
	switch {
	case seconds != nil && when != nil:
		p.fail(http.StatusUnprocessableEntity, "at most one of `sinceTime` or `sinceSeconds` may be specified")
	case seconds != nil:
		// Bounded so that the product does not overflow: 100 years are everything.
		out.options.Since = now.Add(-time.Duration(min(*seconds, 100*365*24*3600)) * time.Second)
	case when != nil:
		out.options.Since = *when
	}
	if out.options.Stream != logs.StreamAll && out.options.TailLines != nil {
		p.fail(http.StatusUnprocessableEntity, "`tailLines` and specific `stream` are mutually exclusive for now")
	}
	return out, p.err
}

// queryParser keeps the first error.
type queryParser struct {
	q   url.Values
	err error
}

func (p *queryParser) fail(status int, format string, args ...any) {
	if p.err == nil {
		p.err = &queryError{status, fmt.Sprintf(format, args...)}
	}
}

func (p *queryParser) bool(name string) bool {
	if !p.q.Has(name) {
		return false
	}
	s := p.q.Get(name)
	if s == "" {
		return true // "?follow"
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		p.fail(http.StatusBadRequest, "%s: %q is not true or false", name, s)
	}
	return v
}

func (p *queryParser) int(name string, least int64) *int64 {
	s := p.q.Get(name)
	if s == "" {
		return nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		p.fail(http.StatusBadRequest, "%s: %q is not a whole number", name, s)
	case v < least:
		p.fail(http.StatusUnprocessableEntity, "%s: %d is less than %d", name, v, least)
	}
	return &v
}

func (p *queryParser) time(name string) *time.Time {
	s := p.q.Get(name)
	if s == "" {
		return nil
	}
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		p.fail(http.StatusBadRequest, "%s: %q is not an RFC 3339 time", name, s)
	}
	return &v
}

func (p *queryParser) stream() logs.Stream {
	switch s := p.q.Get("stream"); s {
	case "", "All":
		return logs.StreamAll
	case "Stdout":
		return logs.StreamStdout
	case "Stderr":
		return logs.StreamStderr
	default:
		p.fail(http.StatusUnprocessableEntity, "stream: %q is not one of All, Stdout, Stderr", s)
		return logs.StreamAll
	}
}
