package chaos_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

// peerEnv in the environment makes this test's program a peer.
const peerEnv = "SKERRY_CHAOS_PEER"

// The devices at the ends of the link.
const (
	edgeDevice  = "skce"
	cloudDevice = "skcc"
)

// world is the two machines and the link between them. Two worlds of different
// slots live side by side.
type world struct {
	slot     int
	linkemu  string // the program
	logs     string // the folder
	seed     uint64
	ledger   *ledger
	lock     *os.File
	identity map[string]peerConfig

	link    *process
	edgeNet sync.Mutex // held by who changes the edge's address or device

	mu     sync.Mutex // guards the following fields: two faults may change them at once
	peers  map[string]*process
	clouds uint64 // started so far
	state  linkState
}

// linkState is what the link is set to; a new emulator gets it, too.
type linkState struct {
	profile string
	words   map[string]int // how many faults want "seta outage", "set udpblock" and the like
	up      bool
}

// process is one that the world has started.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // closed when all it said was taken and it was waited for
}

func (w *world) netns(role string) string { return fmt.Sprintf("skc-%s%d", role, w.slot) }
func (w *world) address(host int) string  { return fmt.Sprintf("10.212.%d.%d", w.slot+1, host) }

func (w *world) socket() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("skc%d.sock", w.slot))
}

// up makes the namespaces and starts the link; what a killed run has left goes
// first.
func (w *world) up(ctx context.Context) error {
	var err error
	if w.lock, err = os.OpenFile(w.socket()+".lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(w.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another run uses slot %d (SKERRY_E2E_SLOT picks one): %w", w.slot, err)
	}
	if err := w.sweep(ctx); err != nil {
		return err
	}
	w.peers = map[string]*process{}
	w.state = linkState{profile: "B", words: map[string]int{}}
	for _, end := range []struct {
		role, device string
		host         int
	}{{roleCloud, cloudDevice, 1}, {roleEdge, edgeDevice, 2}} {
		ns := w.netns(end.role)
		for _, args := range []string{
			"netns add " + ns,
			"-n " + ns + " link set lo up",
			"-n " + ns + " tuntap add mode tun name " + end.device,
			"-n " + ns + " addr add " + w.address(end.host) + "/24 dev " + end.device,
			"-n " + ns + " link set " + end.device + " mtu 1500 txqueuelen 1000 up",
		} {
			if err := ip(ctx, args); err != nil {
				return err
			}
		}
	}
	if err := ip(ctx, w.defaultRoute()); err != nil {
		return err
	}
	if err := w.makeIdentities(); err != nil {
		return err
	}
	return w.startLink(ctx)
}

func (w *world) defaultRoute() string {
	return "-n " + w.netns(roleEdge) + " route replace default via " + w.address(1) + " dev " + edgeDevice
}

// down takes all away.
func (w *world) down(ctx context.Context) error {
	for _, p := range w.peers {
		_ = p.cmd.Process.Kill() // fails when it has ended
		<-p.ended
	}
	if w.link != nil {
		_ = w.link.cmd.Process.Kill()
		<-w.link.ended
	}
	return errors.Join(w.sweep(ctx), w.lock.Close())
}

// sweep removes what this slot has, whoever started it. Nothing but peers runs
// in the namespaces.
func (w *world) sweep(ctx context.Context) error {
	if err := w.say(ctx, "quit"); err == nil {
		pause(200*time.Millisecond, nil, nil) // it closes the devices
	}
	if err := os.Remove(w.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, role := range []string{roleEdge, roleCloud} {
		ns := w.netns(role)
		if _, err := os.Stat("/run/netns/" + ns); err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, "ip", "netns", "pids", ns).Output()
		if err != nil {
			return fmt.Errorf("ip netns pids %s: %w", ns, err)
		}
		for field := range strings.FieldsSeq(string(out)) {
			if pid, err := strconv.Atoi(field); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL) // fails when it has ended
			}
		}
		if err := ip(ctx, "netns del "+ns); err != nil {
			return err
		}
	}
	return nil
}

func ip(ctx context.Context, args string) error {
	out, err := exec.CommandContext(ctx, "ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// makeIdentities gives both ends their certificates.
func (w *world) makeIdentities() error {
	ca, err := issuer.NewCA(cluster)
	if err != nil {
		return err
	}
	server, err := ca.SignServer(issuer.ServerRequest{Cluster: cluster})
	if err != nil {
		return err
	}
	serverKey, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	edge, err := ca.SignEdge(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), certs.Identity{Cluster: cluster, Node: "edge-1"}, 0)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(edge)
	edgeKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	common := peerConfig{CA: ca.Certificate().Raw, Cloud: net.JoinHostPort(w.address(1), strconv.Itoa(tunnelPort)), Seed: w.seed}
	_, _ = rand.Read(common.ResetKey[:]) // never fails
	w.identity = map[string]peerConfig{}
	for role, c := range map[string]struct {
		chain [][]byte
		key   []byte
	}{roleCloud: {server.Certificate, serverKey}, roleEdge: {[][]byte{block.Bytes}, edgeKey}} {
		cfg := common
		cfg.Role, cfg.Chain, cfg.Key = role, c.chain, c.key
		w.identity[role] = cfg
	}
	return nil
}

// startLink starts the emulator in the state that the link has.
func (w *world) startLink(ctx context.Context) error {
	log, err := w.logFile("linkemu")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(w.linkemu, "-a", cloudDevice+"@"+w.netns(roleCloud), "-b", edgeDevice+"@"+w.netns(roleEdge),
		"-ctl", w.socket(), "-seed", fmt.Sprint(w.seed))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	w.link = &process{cmd: cmd, ended: make(chan struct{})}
	go func(p *process) {
		defer close(p.ended)
		_ = p.cmd.Wait() // killed, or told to quit
	}(w.link)
	for range 100 {
		if err = w.say(ctx, "stats"); err == nil {
			break
		}
		pause(50*time.Millisecond, nil, nil)
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.up = true
	return w.restoreLocked(ctx)
}

func (w *world) restoreLocked(ctx context.Context) error {
	errs := []error{w.say(ctx, "profile "+w.state.profile)}
	for what, faults := range w.state.words {
		errs = append(errs, w.say(ctx, fmt.Sprintf("%s=%d", what, min(faults, 1))))
	}
	return errors.Join(errs...)
}

func (w *world) killLink() {
	w.mu.Lock()
	w.state.up = false
	w.mu.Unlock()
	_ = w.link.cmd.Process.Kill()
	<-w.link.ended
}

// add says that one more fault, or one less, wants these words, which a link that
// is dead learns later.
func (w *world) add(ctx context.Context, n int, what ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range what {
		w.state.words[one] += n
	}
	if !w.state.up {
		return nil
	}
	return w.restoreLocked(ctx)
}

// profile changes delay, loss and rate, and leaves what else was set.
func (w *world) profile(ctx context.Context, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.profile = name
	if !w.state.up {
		return nil
	}
	return w.restoreLocked(ctx)
}

// onWorst reports whether the link is E.
func (w *world) onWorst() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.profile == "E"
}

// rebind changes the edge's port outside; a link that is dead forgets it anyway.
func (w *world) rebind(ctx context.Context, offset string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.state.up {
		return nil
	}
	return w.say(ctx, "nat "+offset)
}

// say sends a line to the emulator, and wants an answer that is no error.
func (w *world) say(ctx context.Context, line string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", w.socket())
	if err != nil {
		return err
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		c.SetDeadline(t)
	}
	fmt.Fprintln(c, line)
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && strings.HasPrefix(answer, "error") {
		err = fmt.Errorf("linkemu, %s: %s", line, answer)
	}
	return err
}

func (w *world) logFile(name string) (*os.File, error) {
	if err := os.MkdirAll(w.logs, 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(w.logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// start starts a peer in its namespace and waits until it is ready.
func (w *world) start(role string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := w.logFile(role)
	if err != nil {
		return err
	}
	defer log.Close()
	cfg := w.identity[role]
	cfg.FirstID = 1 << 40
	if role == roleCloud {
		w.clouds++
		cfg.FirstID = (w.clouds + 1) << 40
	}
	first, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	cmd := exec.Command("ip", "netns", "exec", w.netns(role), program)
	cmd.Env = append(os.Environ(), peerEnv+"="+role)
	cmd.Stderr = log
	p := &process{cmd: cmd, ended: make(chan struct{})}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.mu.Lock()
	w.peers[role] = p
	w.mu.Unlock()
	if _, err := fmt.Fprintf(p.stdin, "%s\n", first); err != nil {
		return err
	}
	ready := make(chan struct{})
	go func() {
		defer close(p.ended)
		w.listen(role, out, ready)
		_ = cmd.Wait() // killed, or it has said bye
	}()
	select {
	case <-ready:
		return nil
	case <-p.ended:
		return fmt.Errorf("the %s ended at once; its log is %s", role, log.Name())
	}
}

// listen enters all that a peer says.
func (w *world) listen(role string, out io.Reader, ready chan<- struct{}) {
	bye := false
	for lines := json.NewDecoder(out); ; {
		var e event
		if err := lines.Decode(&e); err != nil {
			break
		}
		if e.Type == eventReady {
			close(ready)
		}
		bye = bye || e.Type == eventBye
		w.ledger.take(role, e)
	}
	if !bye && !w.ledger.expected(role) {
		w.ledger.take(role, event{Type: eventProblem, Text: "the " + role + " ended; the end of its log may say why"})
	}
}

// tell says a word to a peer.
func (w *world) tell(role, word string) error {
	_, err := fmt.Fprintln(w.peer(role).stdin, word)
	return err
}

func (w *world) peer(role string) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.peers[role]
}

// killCloud kills the cloud and starts another: the one fault that ends a session.
func (w *world) killCloud(away time.Duration) error {
	w.ledger.killed()
	p := w.peer(roleCloud)
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.ended
	pause(away, nil, nil)
	w.ledger.restarted()
	return w.start(roleCloud)
}

// freeze stops a process for a while, as a machine does that is suspended.
func (w *world) freeze(role string, d time.Duration) error {
	p := w.peer(role)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		// The other fault may have killed it.
		if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		if sig == syscall.SIGSTOP {
			pause(d, nil, nil)
		}
	}
	return nil
}

// readdress moves the edge to another address; for a moment it has none.
func (w *world) readdress(ctx context.Context, host string) error {
	w.edgeNet.Lock()
	defer w.edgeNet.Unlock()
	n, err := strconv.Atoi(host)
	if err != nil {
		return err
	}
	ns := "-n " + w.netns(roleEdge)
	return errors.Join(
		ip(ctx, ns+" addr flush dev "+edgeDevice),
		ip(ctx, ns+" addr add "+w.address(n)+"/24 dev "+edgeDevice),
		ip(ctx, w.defaultRoute()),
	)
}

// deviceDown takes the edge's device down, and its routes with it.
func (w *world) deviceDown(ctx context.Context, d time.Duration) error {
	w.edgeNet.Lock()
	defer w.edgeNet.Unlock()
	ns := "-n " + w.netns(roleEdge)
	if err := ip(ctx, ns+" link set "+edgeDevice+" down"); err != nil {
		return err
	}
	pause(d, nil, nil)
	return errors.Join(ip(ctx, ns+" link set "+edgeDevice+" up"), ip(ctx, w.defaultRoute()))
}
