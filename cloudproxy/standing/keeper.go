package standing

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxAsked bounds the edges that renew at once: each costs two signatures and a
	// request to kube-apiserver.
	maxAsked = 32
	// askTimeout bounds one: a renewal on the worst link.
	askTimeout = 75 * time.Second
	// askAgain is how soon an edge is asked again that does not stand as it should.
	askAgain = time.Minute
	// settle gathers what changes at once: edges come in crowds.
	settle = time.Second
	// askRenewed is how soon after a renewal of its own an edge is asked whether it has
	// the new certificate on its disk.
	askRenewed = 5 * time.Second
)

// Session is one connected edge.
type Session struct {
	Node  string
	Since time.Time
	// Certificate is what its last handshake showed.
	Certificate *x509.Certificate
}

// Edges are those that are connected to this replica.
type Edges interface {
	Sessions() []Session
	// Session gives one of them, and false when there is none.
	Session(node string) (Session, bool)
	// Changed gives a channel that is closed when an edge next comes, goes or is
	// replaced. It is asked for before Sessions.
	Changed() <-chan struct{}
	DialEdge(ctx context.Context, node string, kind wire.Kind) (net.Conn, error)
}

// CAs is how the cluster's CAs stand.
type CAs interface {
	State() *rotation.State
	// Changed gives a channel that is closed at the next change. It is asked for
	// before State.
	Changed() <-chan struct{}
}

// Config is what New needs.
type Config struct {
	Edges Edges
	CAs   CAs
	// Noted is called with an edge of which Note gives something new; nil means that
	// nobody wants to know. It must not block.
	Noted func(node string)
	// Log may be nil.
	Log *slog.Logger
}

// Keeper brings edges in line.
type Keeper struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{} // of capacity 1

	mu    sync.Mutex // guards the following field
	edges map[string]*edge
}

// edge is what is known of one.
type edge struct {
	leaf   *x509.Certificate // the newest that it is known to have
	signer string            // the CAHash of who signed that
	trusts []string          // nil: it was not asked
	asked  time.Time         // when it was last asked, zero when it is to be at once
	told   *rotation.State   // what it was last told by
	busy   bool
}

// New checks cfg.
func New(cfg Config) (*Keeper, error) {
	if cfg.Edges == nil || cfg.CAs == nil {
		return nil, errors.New("standing: Edges and CAs are required")
	}
	if cfg.Noted == nil {
		cfg.Noted = func(string) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1), edges: make(map[string]*edge)}, nil
}

// Run asks edges until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var g errgroup.Group
	defer g.Wait() //nolint:errcheck // none gives one
	g.SetLimit(maxAsked)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		edges, cas := k.cfg.Edges.Changed(), k.cfg.CAs.Changed()
		due, next := k.due(time.Now())
		for _, node := range due {
			// Go waits for a place, with which the pace is that of the slowest edges.
			g.Go(func() error { k.ask(ctx, node); return nil })
		}
		select {
		case <-edges:
		case <-cas:
		case <-k.wake:
		case <-time.After(next):
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Renewed says that a node was given a certificate through its session.
func (k *Keeper) Renewed(node string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.edges[node]; e != nil && !e.busy {
		e.told, e.asked = nil, time.Now().Add(askRenewed-askAgain)
		k.nudge()
	}
}

func (k *Keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// due gives the edges that are to be asked now, and when to look again.
func (k *Keeper) due(now time.Time) (nodes []string, next time.Duration) {
	state := k.cfg.CAs.State()
	news := state.News()
	next = time.Hour
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := make(map[string]bool)
	for _, s := range k.cfg.Edges.Sessions() {
		seen[s.Node] = true
		e := k.edges[s.Node]
		if e == nil {
			e = &edge{}
			k.edges[s.Node] = e
		}
		e.showed(s.Certificate, state)
		if e.busy || !e.wanted(state, news) {
			continue
		}
		if wait := e.asked.Add(askAgain).Sub(now); wait > 0 && (e.told == state || e.told == nil) {
			next = min(next, wait)
			continue
		}
		e.busy = true
		nodes = append(nodes, s.Node)
	}
	for node, e := range k.edges {
		if !seen[node] && !e.busy {
			delete(k.edges, node)
		}
	}
	return nodes, next
}

// showed takes the certificate of a handshake, unless the edge is known to have a newer
// one: a session goes on with the one that it began with.
func (e *edge) showed(leaf *x509.Certificate, state *rotation.State) {
	if leaf == nil || e.leaf != nil && (leaf.Equal(e.leaf) || !leaf.NotBefore.After(e.leaf.NotBefore)) {
		return
	}
	e.set(leaf, state)
	if e.trusts != nil { // it has renewed, or joined again, and may trust others
		e.trusts, e.told, e.asked = nil, nil, time.Time{}
	}
}

// set notes a certificate. Who signed it is found out once: it costs a signature.
func (e *edge) set(leaf *x509.Certificate, state *rotation.State) {
	e.leaf, e.signer = leaf, ""
	if ca := certs.SignerOf(leaf, state.Known()); ca != nil {
		e.signer = certs.HashCA(ca).String()
	}
}

// wanted reports whether an edge should be asked how it stands.
func (e *edge) wanted(state *rotation.State, news certs.CANews) bool {
	switch {
	case e.told == nil && !e.asked.IsZero():
		return true // it has renewed
	case !state.Rotated():
		return false // there is only one way to stand
	}
	return e.signer != news.Signer || !certs.SameSet(e.trusts, news.Trusted)
}

// ask tells one edge how it should stand, and notes how it does.
func (k *Keeper) ask(ctx context.Context, node string) {
	state := k.cfg.CAs.State()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	said, leaf, err := k.converse(ctx, node, state)
	if k.answered(node, state, said, leaf, err) {
		k.cfg.Noted(node)
	}
}

func (k *Keeper) answered(node string, state *rotation.State, said certs.CAState, leaf *x509.Certificate, err error) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.edges[node]
	if e == nil {
		return false
	}
	e.busy, e.asked, e.told = false, time.Now(), state
	k.nudge()
	switch {
	case err != nil:
		k.log.Debug("edge does not tell how it stands with certificates", "node", node, "err", err)
		return false
	case said.Problem != "":
		k.log.Warn("edge can't renew its certificate", "node", node, "text", said.Problem[:min(len(said.Problem), 200)])
	}
	e.set(leaf, state)
	e.trusts = said.Trusted
	return true
}

func (k *Keeper) converse(ctx context.Context, node string, state *rotation.State) (said certs.CAState, leaf *x509.Certificate, err error) {
	conn, err := k.cfg.Edges.DialEdge(ctx, node, wire.KindRenewal)
	if err != nil {
		return said, nil, err
	}
	defer conn.Close() //nolint:errcheck // all of it was read, or is of no use
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(state.News()); err != nil {
		return said, nil, err
	}
	if err := json.NewDecoder(io.LimitReader(conn, certs.MaxEnrollBody)).Decode(&said); err != nil {
		return said, nil, fmt.Errorf("read: %w", err)
	}
	leaf, err = check(said, node, state)
	return said, leaf, err
}

// maxTrusts bounds what an edge can have written to its Node.
const maxTrusts = 8

// check reads what an edge says of itself. It can harm itself alone by it: the
// certificate has to be one of ours for its node.
func check(said certs.CAState, node string, state *rotation.State) (*x509.Certificate, error) {
	list, err := certs.ParseBundle([]byte(said.Certificate))
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	leaf := list[0]
	id, err := certs.CertificateIdentity(leaf)
	switch {
	case err != nil:
		return nil, err
	case id.Node != node:
		return nil, fmt.Errorf("the certificate is that of %s", id)
	case certs.SignerOf(leaf, state.Known()) == nil:
		return nil, errors.New("the certificate is of none of the CAs")
	case len(said.Trusted) > maxTrusts:
		return nil, fmt.Errorf("it trusts %d CAs", len(said.Trusted))
	}
	for _, name := range said.Trusted {
		if _, err := certs.ParseCAHash(name); err != nil { // the form of fingerprints, too
			return nil, fmt.Errorf("what it trusts: %w", err)
		}
	}
	return leaf, nil
}

// Note gives how a connected edge stands, and false when that is not known: of one that
// is about to be asked the Node tells more.
func (k *Keeper) Note(node string) (Note, bool) {
	state := k.cfg.CAs.State()
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.edges[node]
	if e == nil { // it has just come
		s, ok := k.cfg.Edges.Session(node)
		if !ok {
			return Note{}, false
		}
		e = &edge{}
		e.showed(s.Certificate, state)
		k.edges[node] = e
	}
	if e.leaf == nil || e.asked.IsZero() && e.trusts == nil && state.Rotated() {
		return Note{}, false
	}
	return Note{
		CA: e.signer, Key: certs.KeyHash(e.leaf), NotBefore: e.leaf.NotBefore.UTC(), NotAfter: e.leaf.NotAfter.UTC(),
		Joined: certs.JoinedAt(e.leaf).UTC(), Trusts: e.trusts,
	}, true
}
