package chaos_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"go.uber.org/goleak"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	roleEdge  = "edge"
	roleCloud = "cloud"

	cluster    = "chaos"
	tunnelPort = 7443
)

// peerConfig is the first line that a peer reads.
type peerConfig struct {
	Role     string   `json:"role"`
	Cloud    string   `json:"cloud"` // host:port
	CA       []byte   `json:"ca"`    // DER
	Chain    [][]byte `json:"chain"` // DER
	Key      []byte   `json:"key"`   // PKCS 8
	ResetKey [32]byte `json:"resetKey"`
	Seed     uint64   `json:"seed"`
	FirstID  uint64   `json:"firstID"` // of the streams it opens
}

// The words that follow it, a line each.
const (
	wordStop = "stop" // open no more streams, and hurry those that are open
	wordQuit = "quit" // end the session and the process
)

// The types of events, and which of their fields are set.
const (
	eventReady   = "ready"
	eventSession = "session" // Session
	eventEnded   = "ended"   // Session, Text: the session's end
	eventOpen    = "open"    // Spec
	eventDone    = "done"    // Report
	eventGap     = "gap"     // From, To
	eventLink    = "link"    // Text: what carries the session from now on, "" for nothing
	eventStopped = "stopped" // all streams that it opened are done
	eventProblem = "problem" // Text
	eventBye     = "bye"     // Text: what the process used
)

// event is a line that a peer writes.
type event struct {
	Type    string    `json:"type"`
	At      time.Time `json:"at"`
	Session uint64    `json:"session,omitempty"`
	Text    string    `json:"text,omitempty"`
	Spec    *spec     `json:"spec,omitempty"`
	Report  *report   `json:"report,omitempty"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
}

// peer is one end of the tunnel, in a process of its own.
type peer struct {
	cfg  peerConfig
	log  *slog.Logger
	stop chan struct{}
	quit chan struct{}

	outMu sync.Mutex // guards the following field
	out   *json.Encoder

	mu      sync.Mutex // guards the following fields
	session *tunnel.Session
	changed chan struct{} // closed when session changes
	lastID  uint64
}

// runPeer is the main of a peer's process; it gives the exit code.
func runPeer(ctx context.Context, in io.Reader, out, logs io.Writer) int {
	p := &peer{
		out: json.NewEncoder(out), log: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		stop: make(chan struct{}), quit: make(chan struct{}), changed: make(chan struct{}),
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		p.problem("no configuration: %v", lines.Err())
		return 1
	}
	if err := json.Unmarshal(lines.Bytes(), &p.cfg); err != nil {
		p.problem("configuration: %v", err)
		return 1
	}
	p.lastID = p.cfg.FirstID
	go p.listenToWords(lines)
	before := goleak.IgnoreCurrent()
	play := p.playCloud
	if p.cfg.Role == roleEdge {
		play = p.playEdge
	}
	if err := play(ctx); err != nil {
		p.problem("%v", err)
		return 1
	}
	if err := leak(before); err != nil {
		p.problem("goroutines are left: %v", err)
	}
	p.emit(event{Type: eventBye, Text: memory()})
	return 0
}

// leak says which goroutines are left. A carrier over TCP that was closed waits for
// its peer to close, too: a round trip, and on a bad link all of its 3 s.
func leak(before goleak.Option) error {
	for end := time.Now().Add(5 * time.Second); ; {
		if err := goleak.Find(before); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func (p *peer) listenToWords(lines *bufio.Scanner) {
	for lines.Scan() {
		switch lines.Text() {
		case wordStop:
			close(p.stop)
		case wordQuit:
			close(p.quit)
		}
	}
	select {
	case <-p.quit:
	default:
		os.Exit(3) // whoever started it is gone
	}
}

// memory is the most that this process has had in memory.
func memory() string {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kb int
		if n, _ := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kb); n == 1 {
			return fmt.Sprintf("%d MB", kb>>10)
		}
	}
	return "unknown"
}

func (p *peer) emit(e event) {
	e.At = time.Now()
	p.outMu.Lock()
	defer p.outMu.Unlock()
	if err := p.out.Encode(e); err != nil {
		os.Exit(3) // nobody listens
	}
}

func (p *peer) problem(format string, args ...any) {
	p.emit(event{Type: eventProblem, Text: p.cfg.Role + ": " + fmt.Sprintf(format, args...)})
}

// playEdge dials whenever there is no session, as the agent does.
func (p *peer) playEdge(ctx context.Context) error {
	cert, pool, err := p.cfg.identity()
	if err != nil {
		return err
	}
	tlsConfig, err := certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
		RootCAs:              pool, Cluster: cluster, NextProtos: []string{tunnel.ALPN},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { p.publish(nil) })()
	wg.Go(func() {
		select {
		case <-p.quit:
			cancel()
		case <-ctx.Done():
		}
	})
	wg.Go(func() { _ = uplink.WatchNetwork(ctx, p.check) })
	wg.Go(p.openStreams)
	wg.Go(func() { p.watchLink(ctx) })
	p.emit(event{Type: eventReady})
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		s, err := tunnel.Dial(ctx, tunnel.DialConfig{
			Address: p.cfg.Cloud, TLS: tlsConfig, Log: p.log, Hello: wire.Hello{Incarnation: [16]byte{1}, Seq: seq, AgentVersion: "chaos"},
			Packets: p.cfg.Seed%2 == 0, // one schedule has them, another does not
		})
		if err != nil {
			p.log.Info("dial", "err", err)
			pause(300*time.Millisecond, p.quit, nil)
			seq--
			continue
		}
		p.emit(event{Type: eventSession, Session: seq})
		p.log.Info("session begins", "seq", seq)
		p.publish(s)
		p.acceptStreams(ctx, s, &wg)
		_ = s.Close(wire.CodeOK, "done") // when it was told to quit
		p.publish(nil)
		p.emit(event{Type: eventEnded, Session: seq, Text: fmt.Sprint(s.Err())})
		p.log.Info("session ended", "seq", seq, "err", s.Err())
	}
	return nil
}

// watchLink tells when another kind of carrier takes over.
func (p *peer) watchLink(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for last := ""; ; {
		p.mu.Lock()
		s, now := p.session, ""
		p.mu.Unlock()
		if s != nil {
			now = s.Stats().Link
		}
		if now != last {
			p.emit(event{Type: eventLink, Text: now})
			last = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// check makes the session look whether the network still carries it.
func (p *peer) check() {
	p.mu.Lock()
	s := p.session
	p.mu.Unlock()
	if s != nil {
		s.Check()
	}
}

// playCloud takes in the edge's sessions; the newest replaces the one before.
func (p *peer) playCloud(ctx context.Context) error {
	cert, pool, err := p.cfg.identity()
	if err != nil {
		return err
	}
	tlsConfig, err := certs.ServerTLS(certs.ServerConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		ClientCAs:      pool, Cluster: cluster, NextProtos: []string{tunnel.ALPN},
	})
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", ":"+strconv.Itoa(tunnelPort))
	if err != nil {
		return err
	}
	l, err := tunnel.Listen(ctx, tunnel.ListenConfig{
		Port: tunnelPort, Listener: tcp, TLS: tlsConfig, Replica: "chaos",
		StatelessResetKey: p.cfg.ResetKey, TokenKey: p.cfg.ResetKey, Log: p.log,
	})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	closed := make(chan error, 1)
	wg.Go(func() {
		<-p.quit
		closed <- l.Close()
	})
	wg.Go(p.openStreams)
	p.emit(event{Type: eventReady})
	var old *tunnel.Session
	for {
		s, err := l.Accept(ctx)
		if err != nil {
			break
		}
		if old != nil {
			_ = old.Close(wire.CodeReplaced, "a newer session") // never fails
		}
		old = s
		p.log.Info("session begins", "seq", s.Hello().Seq)
		p.publish(s)
		wg.Go(func() {
			p.acceptStreams(ctx, s, &wg)
			p.log.Info("session ended", "seq", s.Hello().Seq, "err", s.Err())
		})
	}
	err = <-closed
	p.publish(nil)
	return err
}

// publish makes s the session on which streams are opened.
func (p *peer) publish(s *tunnel.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session = s
	close(p.changed)
	p.changed = make(chan struct{})
}

// current waits for a session other than the one that has ended; nil means that
// no more streams are to be opened.
func (p *peer) current(ended *tunnel.Session) *tunnel.Session {
	for {
		p.mu.Lock()
		s, changed := p.session, p.changed
		p.mu.Unlock()
		select {
		case <-p.stop:
			return nil
		default:
		}
		if s != nil && s != ended {
			return s
		}
		select {
		case <-changed:
		case <-p.stop:
		}
	}
}

// acceptStreams plays the peer's streams, each in a goroutine of wg, until the
// session ends.
func (p *peer) acceptStreams(ctx context.Context, s *tunnel.Session, wg *sync.WaitGroup) {
	for {
		st, err := s.Accept(ctx)
		if err != nil {
			return
		}
		wg.Go(func() {
			r := p.acceptStream(st)
			r.Session = s.Hello().Seq
			p.emit(event{Type: eventDone, Report: &r})
		})
	}
}

func (p *peer) acceptStream(st *tunnel.Stream) report {
	sp, err := readSpec(st)
	ended := (*tunnel.SessionError)(nil)
	switch {
	case errors.As(err, &ended):
		return report{Lost: err.Error(), At: time.Now()}
	case err != nil:
		return report{Wrong: err.Error(), At: time.Now()}
	}
	a := side{spec: sp, conn: st, hurry: p.stop}
	if sp.Shape == shapeTerminal {
		a.meter = p.newMeter()
		a.meter.begin(time.Now(), false)
	}
	return a.run()
}

func (p *peer) newMeter() *meter {
	return &meter{gap: func(from, to time.Time) { p.emit(event{Type: eventGap, From: from, To: to}) }}
}

// openStreams keeps one stream of each shape going, until it is told to stop.
func (p *peer) openStreams() {
	var wg sync.WaitGroup
	for i, shape := range shapes() {
		wg.Go(func() { p.keepOpening(shape, rand.New(rand.NewPCG(p.cfg.Seed^p.cfg.FirstID, uint64(i)))) })
	}
	wg.Wait()
	p.emit(event{Type: eventStopped})
}

func (p *peer) keepOpening(shape string, r *rand.Rand) {
	var (
		m     *meter
		ended *tunnel.Session
	)
	if shape == shapeTerminal {
		m = p.newMeter()
	}
	for s := p.current(nil); s != nil; s = p.current(ended) {
		sp := draw(r, shape)
		p.mu.Lock()
		p.lastID++
		sp.ID, sp.Session = p.lastID, s.Hello().Seq
		p.mu.Unlock()
		st, err := s.Open(context.Background(), sp.Kind) //nolint:forbidigo // the process's end is its end
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.problem("open a stream: %v", err)
			}
			ended = s
			continue
		}
		p.emit(event{Type: eventOpen, Spec: &sp})
		o := side{spec: sp, conn: st, opener: true, hurry: p.stop, meter: m}
		if m != nil {
			m.begin(time.Now(), ended != nil)
		}
		report := o.run()
		p.emit(event{Type: eventDone, Report: &report})
		ended = nil
		if report.Lost != "" {
			ended = s
		}
		pause(rest(r, shape), p.stop, nil)
	}
}

// identity is what the peer proves itself with, and whom it trusts.
func (c peerConfig) identity() (*tls.Certificate, *x509.CertPool, error) {
	key, err := x509.ParsePKCS8PrivateKey(c.Key)
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(c.CA)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Certificate{Certificate: c.Chain, PrivateKey: key}, pool, nil
}
