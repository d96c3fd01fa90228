package opcua

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/browse"
	"github.com/skerry-io/skerry/devices/opcua/discovery"
	"github.com/skerry-io/skerry/devices/opcua/pki"
	"github.com/skerry-io/skerry/devices/opcua/session"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Discover asks a server what it tells everybody.
func (d *Driver) Discover(ctx context.Context, url string) (survey.Discovery, error) {
	var out survey.Discovery
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	dialer := limited{d.cfg.Dialer}
	endpoints, err := discovery.Endpoints(ctx, dialer, url)
	if err != nil {
		return out, fmt.Errorf("ask %s for its endpoints: %w", url, err)
	}
	best, _ := discovery.Choose(endpoints, discovery.Want{User: ua.UserTokenTypeAnonymous}) // none is no fault here
	for _, e := range endpoints {
		out.Endpoints = append(out.Endpoints, endpointOf(e, e == best.Endpoint))
	}
	servers, err := discovery.Servers(ctx, dialer, url)
	if err != nil {
		return out, fmt.Errorf("ask %s for servers: %w", url, err)
	}
	for _, s := range servers {
		if s == nil {
			continue
		}
		server := survey.Server{URI: s.ApplicationURI, URLs: s.DiscoveryURLs}
		if s.ApplicationName != nil {
			server.Name = s.ApplicationName.Text
		}
		out.Servers = append(out.Servers, server)
	}
	return out, nil
}

func endpointOf(e *ua.EndpointDescription, best bool) survey.Endpoint {
	policy, mode, _ := strings.Cut(discovery.Describe(e), "/")
	out := survey.Endpoint{URL: e.EndpointURL, Policy: policy, Mode: mode, Best: best}
	for _, t := range e.UserIdentityTokens {
		if t != nil {
			out.Users = append(out.Users, strings.TrimPrefix(t.TokenType.String(), "UserTokenType"))
		}
	}
	slices.Sort(out.Users)
	out.Users = slices.Compact(out.Users)
	if certs, err := x509.ParseCertificates(e.ServerCertificate); err == nil && len(certs) > 0 {
		out.Fingerprint, out.Subject = pki.Fingerprint(certs[0].Raw), certs[0].Subject.String()
	}
	return out
}

// surveyor tells what it finds on a link.
type surveyor struct {
	link *link
	tell func(survey.Line) error
	err  error // of tell
}

// Browse tells what a server's address space holds, as package survey says it. dev
// has the server and its secrets, and no properties. A certificate that is not trusted
// is a *pki.RejectedError; what was found until something failed is told.
func (d *Driver) Browse(ctx context.Context, dev *devices.Device, root string, most int, tell func(survey.Line) error) error {
	dev.Spec.Protocol.OPCUA.SessionTimeout = &v1alpha1.Duration{Duration: time.Minute} // should we not come to close it
	s, err := parse(dev)
	if err != nil {
		return err
	}
	if err := d.certificates(); err != nil {
		return err
	}
	at := address{id: ua.NewNumericNodeID(0, id.ObjectsFolder)}
	limits := browse.Limits{Nodes: most}
	if root == "" { // the server's own diagnostics, aliases and places are no device
		for _, n := range []uint32{id.Server, 23470, 31915} {
			limits.Skip = append(limits.Skip, ua.NewNumericNodeID(0, n))
		}
	} else if at, err = parseAddress(root); err != nil {
		return &devices.ConfigError{Field: "root", Reason: err.Error()}
	}
	v := &surveyor{tell: tell}
	v.progress("connect", 0)
	h := newHub(d, s.server)
	of := newConn(d, dev, s, nil, slog.New(slog.DiscardHandler))
	if v.link, err = h.connect(ctx, of); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		v.link.session.Close(ctx, true)
		v.link.session.Channel().Close()
	}()
	node, ok := at.in(v.link.namespaces)
	if !ok {
		return &devices.ConfigError{Field: "root", Reason: fmt.Sprintf("the server has no namespace %q; it has %s", at.uri, strings.Join(v.link.namespaces, ", "))}
	}
	limits.Progress = func(n int) { v.progress("browse", n) }
	nodes, err := browse.Walk(ctx, v.link.session, node, limits)
	truncated := errors.Is(err, browse.ErrTooMany)
	if err != nil && !truncated {
		return fmt.Errorf("browse: %w", err)
	}
	if err := v.all(ctx, nodes); err != nil {
		return err
	}
	return tell(survey.Line{End: &survey.End{Nodes: len(nodes), Truncated: truncated}})
}

func (v *surveyor) progress(doing string, nodes int) {
	v.line(survey.Line{Progress: &survey.Progress{Doing: doing, Nodes: nodes}})
}

func (v *surveyor) line(l survey.Line) {
	if v.err == nil {
		v.err = v.tell(l)
	}
}

// all tells of types and nodes.
func (v *surveyor) all(ctx context.Context, nodes []browse.Node) error {
	v.progress("types", len(nodes))
	var dataTypes, definitions []*ua.NodeID
	for i := range nodes {
		n := &nodes[i]
		if n.DataType != nil {
			dataTypes = append(dataTypes, n.DataType)
		}
		for _, a := range slices.Concat(n.Inputs, n.Outputs) {
			dataTypes = append(dataTypes, a.DataType)
		}
		if n.TypeDefinition != nil {
			definitions = append(definitions, n.TypeDefinition)
		}
	}
	if err := v.link.types.Load(ctx, v.link.session, dataTypes); err != nil {
		return err
	}
	names, err := v.names(ctx, definitions)
	if err != nil {
		return err
	}
	described := v.link.types.Describe()
	out := make([]survey.Node, 0, len(nodes))
	for i := range nodes {
		if n, ok := v.node(&nodes[i], described, names); ok {
			out = append(out, n)
		}
	}
	for _, t := range described.Definitions() {
		v.line(survey.Line{Type: &t})
	}
	for i := range out {
		v.line(survey.Line{Node: &out[i]})
	}
	return v.err
}

// names reads the browse names of type definitions, each once.
func (v *surveyor) names(ctx context.Context, ids []*ua.NodeID) (map[string]string, error) {
	names := map[string]string{}
	var ask []session.Attribute
	for _, n := range ids {
		if _, seen := names[n.String()]; !seen {
			names[n.String()] = ""
			ask = append(ask, session.Attribute{Node: n, ID: ua.AttributeIDBrowseName})
		}
	}
	results, err := v.link.session.Read(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("names of types: %w", err)
	}
	for i, r := range results {
		if r == nil || r.Value == nil {
			continue
		}
		if name, ok := r.Value.Value().(*ua.QualifiedName); ok && name != nil {
			names[ask[i].Node.String()] = name.Name
		}
	}
	return names, nil
}
