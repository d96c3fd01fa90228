package desired

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// Bounds of PROTOCOL.md for frames on this stream, down and up.
	maxFrame   = 4 << 20
	maxFrameUp = 64 << 10
	// maxHave bounds what an edge may say that it holds: far more than an edge runs.
	maxHave = 32 << 10
	// maxHaveBytes bounds the names and versions of that. The usual have 120 bytes
	// together; nothing but an edge says how long these are.
	maxHaveBytes = 4 << 20
	// writeBuffer joins small frames that go out together.
	writeBuffer = 16 << 10
	// Waits between reads of the API that fail.
	minRetry = 500 * time.Millisecond
	maxRetry = 30 * time.Second
)

var errHave = fmt.Errorf("edge names more than %d objects or %d bytes of them", maxHave, maxHaveBytes)

// stream brings one edge up to date and keeps it there. Fields below queue
// belong to the goroutine of serve.
type stream struct {
	*queue
	pub  *Publisher
	node string
	log  *slog.Logger
	conn net.Conn
	r    *wire.Reader
	w    *bufio.Writer
	wg   sync.WaitGroup

	named  map[string][]string // key of a pod or Device -> keys that it names
	users  map[string]int      // named key -> number of pods and Devices that name it; Publisher.detach reads it when serve is over
	tokens map[string]*token
	doubts doubts
}

func newStream(p *Publisher, node string, conn net.Conn) *stream {
	return &stream{
		queue:  newQueue(),
		pub:    p,
		node:   node,
		log:    p.log.With("edge", node),
		conn:   conn,
		r:      wire.NewReader(bufio.NewReader(conn), maxFrameUp),
		w:      bufio.NewWriterSize(conn, writeBuffer),
		named:  make(map[string][]string),
		users:  make(map[string]int),
		tokens: make(map[string]*token),
		doubts: doubts{spared: make(map[string][]string)},
	}
}

func (s *stream) serve(ctx context.Context) error {
	// From here on every change is marked; what was there before is found by the
	// index.
	s.pub.attach(s)
	defer s.pub.detach(s)
	if err := s.learn(); err != nil {
		return err
	}
	s.ownNode()
	ctx, cancel := context.WithCancelCause(ctx)
	s.wg.Go(func() { cancel(s.readAcks(s.r)) })
	err := s.follow(ctx)
	cancel(err)
	_ = s.conn.Close()
	s.wg.Wait()
	return context.Cause(ctx)
}

// follow looks at every pod and Device of the edge, which shows what they name, then at all
// that the edge holds, and then at whatever changes.
func (s *stream) follow(ctx context.Context) error {
	if err := s.dismiss(ctx); err != nil {
		return err
	}
	held := s.keys()
	for _, pod := range s.pub.PodsOf(s.node) {
		s.mark(wire.ObjectKey(wire.ResourcePods, pod.Namespace, pod.Name))
	}
	for _, d := range s.pub.devicesOf(s.node) {
		s.mark(wire.ObjectKey(wire.ResourceDevices, d.Namespace, d.Name))
	}
	// Those of the edge that the cache does not know must come before what they
	// name, too: the API may know better.
	for _, key := range held {
		if r, _, _, _, ok := wire.SplitKey(key); ok && (r == wire.ResourcePods || r == wire.ResourceDevices) {
			s.mark(key)
		}
	}
	for _, key := range held {
		s.mark(key)
	}
	for {
		for key, ok := s.next(); ok; key, ok = s.next() {
			if err := s.look(ctx, key); err != nil {
				return err
			}
		}
		if err := s.rest(ctx); err != nil {
			return err
		}
	}
}

// rest says Synced when that is news, and waits for something to do.
func (s *stream) rest(ctx context.Context) error {
	s.mu.Lock()
	// A change that is held back is one that the edge lacks.
	news := !s.synced && len(s.held) == 0 && len(s.order) == 0
	s.synced = s.synced || news
	sent := s.sent
	s.mu.Unlock()
	if news {
		if err := wire.Write(s.w, &wire.Synced{Seq: sent}); err != nil {
			return err
		}
	}
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	s.takeResults()
	var due <-chan time.Time
	if at, ok := s.nextDue(); ok {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-s.bell:
	case <-due:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.takeResults()
	s.markDue()
	return nil
}

// look compares what the edge should have under key with what it has.
func (s *stream) look(ctx context.Context, key string) error {
	if s.hold(key) {
		return nil
	}
	if err := s.room(ctx); err != nil {
		return err
	}
	if of, ok := strings.CutPrefix(key, followKey); ok {
		s.followNamed(of)
		return nil
	}
	resource, namespace, name, _, ok := wire.SplitKey(key)
	if !ok {
		return s.remove(key)
	}
	switch resource {
	case wire.ResourcePods:
		return s.lookAtPod(ctx, key, namespace, name)
	case wire.ResourceDevices:
		return s.lookAtDevice(ctx, key, namespace, name)
	case wire.ResourceTokens:
		return s.lookAtToken(ctx, key)
	case wire.ResourceClaims:
		s.followClaim(key, namespace, name)
		return s.lookAtNamed(key)
	default:
		return s.lookAtNamed(key)
	}
}

func (s *stream) lookAtPod(ctx context.Context, key, namespace, name string) error {
	pod := cached[*corev1.Pod](s.pub.pods, namespace, name)
	if version, ok := s.version(key); ok && (pod == nil || pod.UID != versionUID(version)) {
		// To take a pod from an edge is to kill it. A cache that is behind, of this
		// replica or of the API server, must not be the reason.
		var err error
		if pod, err = s.confirm(ctx, namespace, name); err != nil {
			return err
		}
	}
	before := s.named[key]
	if !wanted(pod, s.node) {
		delete(s.named, key)
		if err := s.remove(key); err != nil {
			return err
		}
		return s.release(ctx, before)
	}
	after, tokens := names(pod, s.pub)
	s.named[key] = after
	for k, spec := range tokens {
		s.wantToken(k, pod, spec)
	}
	if err := s.useAll(ctx, after); err != nil {
		return err
	}
	version, err := podVersion(pod)
	if err == nil {
		err = s.put(key, version, pod.Marshal)
	}
	if err != nil {
		return err
	}
	return s.release(ctx, before)
}

// useAll adds one use of each key. What a pod names goes before it, so that it can start
// when it arrives.
func (s *stream) useAll(ctx context.Context, keys []string) error {
	for _, k := range keys {
		if s.users[k]++; s.users[k] == 1 {
			s.pub.use(k, s)
		}
	}
	for _, k := range keys {
		if err := s.look(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// release gives up one use of each key, and takes away what nobody uses.
func (s *stream) release(ctx context.Context, keys []string) error {
	for _, k := range keys {
		if s.users[k]--; s.users[k] > 0 {
			continue
		}
		delete(s.users, k)
		delete(s.tokens, k)
		s.pub.unuse(k, s)
		if err := s.look(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// marshaler is an API object that this package sends.
type marshaler interface {
	metav1.Object
	Marshal() ([]byte, error)
}

func (s *stream) lookAtNamed(key string) error {
	// Who uses a key may depend on what is not known, as the bundles of a signer do.
	if r, _, _, _, _ := wire.SplitKey(key); !s.pub.known(r) {
		return nil
	}
	if s.users[key] == 0 {
		if s.spares(key) {
			return nil
		}
		return s.remove(key)
	}
	v, ok := s.pub.current(key)
	if !ok {
		return s.remove(key)
	}
	return s.put(key, v.version, v.marshal)
}

// cached gives an object of an informer, or nil.
func cached[T any](informer cache.SharedIndexInformer, namespace, name string) T {
	var none T
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	o, ok, err := informer.GetIndexer().GetByKey(key)
	if err != nil || !ok {
		return none
	}
	t, ok := o.(T)
	if !ok {
		return none
	}
	return t
}

// room waits until the window has room.
func (s *stream) room(ctx context.Context) error {
	if !s.full() {
		return nil
	}
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	for s.full() {
		select {
		case <-s.bell:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	s.ring() // the bell was for more than the window
	return nil
}

// put sends an object unless the edge has this version.
func (s *stream) put(key, version string, marshal func() ([]byte, error)) error {
	if v, ok := s.version(key); ok && v == version {
		return nil
	}
	value, err := marshal()
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	if size := len(value) + len(key) + len(version); size > maxFrame-64 {
		s.log.Error("object is too large for the stream and stays behind", "key", key, "bytes", size)
		return nil
	}
	f := &wire.Upsert{Key: key, Version: version}
	f.Encoding, f.Value = s.pub.encoder.Encode(value)
	f.Seq = s.launch(key, version, len(f.Value)+len(key)+len(version))
	return s.write(f)
}

// remove takes an object from the edge, if it has it.
func (s *stream) remove(key string) error {
	seq, ok := s.launchDelete(key)
	if !ok {
		return nil
	}
	return s.write(&wire.Delete{Seq: seq, Key: key})
}

func (s *stream) write(f wire.Frame) error {
	err := wire.Write(s.w, f)
	if errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stream is closed: %w", err)
	}
	return err
}
