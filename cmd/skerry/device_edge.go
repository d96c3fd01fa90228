package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// edgeTimeout bounds what is asked of an edge, but for a browse.
const edgeTimeout = 90 * time.Second

// askEdge asks an edge by way of kube-apiserver and decodes its answer.
func (d *devices) askEdge(ctx context.Context, node, method, path string, query url.Values, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, edgeTimeout)
	defer cancel()
	req, err := d.edgeRequest(node, method, path, query, body)
	if err != nil {
		return err
	}
	result := req.Do(ctx)
	if err := result.Error(); err != nil { // it reads a Status, which Raw does not
		return explainEdge(node, err)
	}
	b, err := result.Raw()
	if err != nil {
		return explainEdge(node, err)
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("decode the answer of edge %s, is its agent of another version? %w", node, err)
	}
	return nil
}

// streamEdge is askEdge for an answer that comes bit by bit.
func (d *devices) streamEdge(ctx context.Context, node, path string, query url.Values, body any) (io.ReadCloser, error) {
	req, err := d.edgeRequest(node, http.MethodPost, path, query, body)
	if err != nil {
		return nil, err
	}
	stream, err := req.Stream(ctx)
	if err != nil {
		return nil, explainEdge(node, err)
	}
	return stream, nil
}

func (d *devices) edgeRequest(node, method, path string, query url.Values, body any) (*rest.Request, error) {
	client, err := d.client()
	if err != nil {
		return nil, err
	}
	req := client.CoreV1().RESTClient().Verb(method).Resource("nodes").Name(node).SubResource("proxy").Suffix(path)
	for key, values := range query {
		for _, v := range values {
			req = req.Param(key, v)
		}
	}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		req = req.SetHeader("Content-Type", "application/json").Body(bytes.NewReader(b))
	}
	return req, nil
}

// explainEdge says what to do about an answer that is none.
func explainEdge(node string, err error) error {
	text := reason(err)
	var st apierrors.APIStatus
	if errors.As(err, &st) && st.Status().Message != "" && text == err.Error() {
		text = st.Status().Message
	}
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("edge %s may not be asked: %s; next: have somebody give you the right to nodes/proxy, create for all but read", node, text)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("edge %s has not answered within %v; next: 'skerry status %s'", node, edgeTimeout, node)
	case apierrors.IsNotFound(err) && text == "404 page not found":
		return fmt.Errorf("the agent of edge %s does not know this; next: update it", node)
	}
	if text == fmt.Sprintf("nodes %q not found", node) {
		return fmt.Errorf("there is no edge %s; next: 'skerry status' lists all", node)
	}
	return fmt.Errorf("edge %s: %s", node, text)
}
