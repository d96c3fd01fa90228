package embedded

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/crypto/bcrypt"

	"github.com/skerry-io/skerry/edgeagent/bus"
)

// bed is a running broker and the commands that came.
type bed struct {
	*Broker
	t        *testing.T
	users    string
	commands chan bus.Command
	stop     func()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func usersText(t *testing.T, entries string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(entries, "HASH", fmt.Sprintf("%q", hash))
}

const someUsers = `
anonymous: {subscribe: ["public/#"]}
users:
- {name: hmi, passwordHash: HASH, subscribe: ["#"], publish: ["#"]}
- {name: pod, passwordHash: HASH, subscribe: ["skerry/a/+/value/#", "pod/#"], publish: ["skerry/a/d/set/x", "pod/#"]}
`

func start(t *testing.T, change func(*Config)) *bed {
	t.Helper()
	b := &bed{t: t, users: filepath.Join(t.TempDir(), "users.yaml"), commands: make(chan bus.Command, 1000)}
	write(t, b.users, usersText(t, someUsers))
	cfg := Config{Listen: "127.0.0.1:0", UsersFile: b.users, Node: "edge", Command: func(c bus.Command) { b.commands <- c }}
	if change != nil {
		change(&cfg)
	}
	var err error
	if b.Broker, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	up, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- b.Run(ctx, func(ctx context.Context, _ bus.Broker) error { close(up); <-ctx.Done(); return nil })
	}()
	<-up
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

type client struct {
	*paho.Client
	t    *testing.T
	came chan *paho.Publish
}

// dial connects; change may be nil.
func (b *bed) dial(user string, change func(*paho.Connect)) (*client, error) {
	b.t.Helper()
	raw, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	return b.over(raw, user, change)
}

func (b *bed) over(raw net.Conn, user string, change func(*paho.Connect)) (*client, error) {
	c := &client{t: b.t, came: make(chan *paho.Publish, 20000)}
	c.Client = paho.NewClient(paho.ClientConfig{Conn: raw, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) { c.came <- p.Packet; return true, nil },
	}})
	cp := &paho.Connect{ClientID: raw.LocalAddr().String(), KeepAlive: 30, CleanStart: true}
	if user != "" {
		cp.Username, cp.UsernameFlag, cp.Password, cp.PasswordFlag = user, true, []byte("secret"), true
	}
	if change != nil {
		change(cp)
	}
	_, err := c.Connect(b.t.Context(), cp)
	if err == nil {
		b.t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	}
	return c, err
}

func (b *bed) must(user string, change func(*paho.Connect)) *client {
	b.t.Helper()
	c, err := b.dial(user, change)
	if err != nil {
		b.t.Fatalf("%s: %v", user, err)
	}
	return c
}

// codes subscribes, and gives what the broker says of each filter.
func (c *client) codes(filters ...string) []byte {
	c.t.Helper()
	s := &paho.Subscribe{}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	ack, err := c.Client.Subscribe(c.t.Context(), s)
	if ack == nil {
		c.t.Fatal(err)
	}
	return ack.Reasons
}

func testMessage(topic string) *paho.Publish {
	return &paho.Publish{Topic: topic, Payload: []byte("1")}
}

func (c *client) next() *paho.Publish {
	c.t.Helper()
	select {
	case p := <-c.came:
		return p
	case <-time.After(time.Minute):
		c.t.Fatal("nothing came for a minute")
		return nil
	}
}

// code is the reason code of a publication with QoS 1.
func (c *client) code(p *paho.Publish) byte {
	c.t.Helper()
	p.QoS = 1
	ack, err := c.Client.Publish(c.t.Context(), p)
	if ack == nil {
		c.t.Fatal(err)
	}
	return ack.ReasonCode
}

func TestRights(t *testing.T) {
	b := start(t, nil)
	pod := b.must("pod", nil)
	got := pod.codes("#", "skerry/#", "skerry/a/+/value/#", "skerry/a/d/value/x", "skerry/+/d/value/x", "skerry/a/d/result", "$SYS/#", "$share/g/pod/x", "pod/+")
	want := []byte{0x87, 0x87, 1, 1, 0x87, 0x87, 0x8f, 0x8f, 1}
	if !bytes.Equal(got, want) {
		t.Errorf("subscriptions: %x, want %x", got, want)
	}
	hmi := b.must("hmi", nil)
	for topic, ok := range map[string]bool{
		"skerry/a/d/set/x": true, "skerry/a/d/set/y": false, "skerry/a/d/value/x": false, "pod/x": true, "other": false,
	} {
		if code := pod.code(&paho.Publish{Topic: topic, Payload: []byte("1")}); (code < 0x80) != ok {
			t.Errorf("pod publishes to %s: %x", topic, code)
		}
	}
	// Who may all may not speak for the edge either.
	for _, topic := range []string{"skerry/a/d/value/x", "skerry/edges/edge", "skerry/a/d/result", "skerry/x"} {
		if code := hmi.code(&paho.Publish{Topic: topic, Payload: []byte("1")}); code < 0x80 {
			t.Errorf("hmi publishes to %s", topic)
		}
	}
	if c := <-b.commands; c.Name != "x" || c.From == "" || len(b.commands) != 0 {
		t.Errorf("%+v and %d others", c, len(b.commands))
	}
	nobody := b.must("", nil)
	if got := nobody.codes("public/x", "pod/x"); !bytes.Equal(got, []byte{1, 0x87}) {
		t.Errorf("anonymous: %x", got)
	}
	for name, change := range map[string]func(*paho.Connect){
		"a wrong password": func(c *paho.Connect) { c.Password = []byte("wrong") },
		"an unknown user":  func(c *paho.Connect) { c.Username = "x" },
		"a will for a device": func(c *paho.Connect) {
			c.WillMessage = &paho.WillMessage{Topic: "skerry/a/d/set/x", Payload: []byte(`{"value":1}`)}
		},
		"a will for others": func(c *paho.Connect) { c.WillMessage = &paho.WillMessage{Topic: "other", Payload: []byte("x")} },
	} {
		if _, err := b.dial("pod", change); err == nil {
			t.Errorf("%s is let in", name)
		}
	}
	if b.Stats().Denied == 0 {
		t.Error("nothing is counted")
	}
}

// TestResponseTopic: the edge answers only to where the client itself may publish.
func TestResponseTopic(t *testing.T) {
	b := start(t, nil)
	pod := b.must("pod", nil)
	for to, want := range map[string]string{"pod/answer": "pod/answer", "other/answer": "", "skerry/a/d/value/x": "", "pod/#": ""} {
		pod.code(&paho.Publish{Topic: "skerry/a/d/set/x", Payload: []byte("1"), Properties: &paho.PublishProperties{ResponseTopic: to, CorrelationData: []byte("c")}})
		if c := <-b.commands; c.Response != want || string(c.Correlation) != "c" {
			t.Errorf("%s: %+v", to, c)
		}
	}
	pod.code(&paho.Publish{Topic: "pod/kept", Payload: []byte("1"), Retain: true})
	pod.codes("pod/#")
	pod.code(&paho.Publish{Topic: "pod/next", Payload: []byte("1")})
	if p := pod.next(); p.Topic != "pod/next" {
		t.Errorf("%s is retained for a client", p.Topic)
	}
	pod.code(&paho.Publish{Topic: "skerry/a/d/set/x", Retain: true})
	if c := <-b.commands; !c.Retained {
		t.Errorf("%+v", c)
	}
}

// TestTakeover: a client can't be another user's by its id, nor the broker's own.
func TestTakeover(t *testing.T) {
	b := start(t, nil)
	hmi := b.must("hmi", func(c *paho.Connect) { c.ClientID = "same" })
	hmi.codes("pod/x")
	b.must("pod", func(c *paho.Connect) { c.ClientID, c.CleanStart = "same", false })
	b.must("pod", func(c *paho.Connect) { c.ClientID, c.CleanStart = "inline", false })
	if err := b.Publish(t.Context(), bus.Message{Topic: "pod/x", Payload: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if p := hmi.next(); p.Topic != "pod/x" {
		t.Errorf("%+v", p)
	}
}

// TestRetained: a new subscriber gets far more retained messages than may wait for a
// client, each one's newest last, while they change.
func TestRetained(t *testing.T) {
	b := start(t, nil)
	const topics = 4 * pending
	put := func(i, v int) {
		if err := b.Publish(t.Context(), bus.Message{Topic: fmt.Sprintf("skerry/a/d/value/p%d", i), Payload: []byte(fmt.Sprint(v)), Retain: true}); err != nil {
			t.Error(err)
		}
	}
	for i := range topics {
		put(i, 0)
	}
	c := b.must("hmi", nil)
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		for i := range pending / 2 {
			put(i, 1)
		}
	}()
	c.codes("skerry/a/#")
	<-changed
	newest := make(map[string]string)
	for fresh := 0; len(newest) < topics || fresh < pending/2; {
		p := c.next()
		if before := newest[p.Topic]; before == "0" && string(p.Payload) == "1" || before == "" && string(p.Payload) == "1" {
			fresh++
		} else if before == "1" && string(p.Payload) == "0" {
			fresh--
		}
		newest[p.Topic] = string(p.Payload)
	}
	if s := b.Stats(); s.Slow != 0 {
		t.Errorf("%+v", s)
	}
	if err := b.Publish(t.Context(), bus.Message{Topic: "skerry/a/d/value/p0", Retain: true}); err != nil {
		t.Fatal(err)
	}
	late := b.must("hmi", nil)
	late.codes("skerry/a/d/value/p0", "skerry/a/d/value/p1")
	if p := late.next(); p.Topic != "skerry/a/d/value/p1" || !p.Retain {
		t.Errorf("%+v", p)
	}
}

// TestSlowClient: who does not read is cut off, and holds up nobody.
func TestSlowClient(t *testing.T) {
	b := start(t, nil)
	raw, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	// CONNECT of 3.1.1 as hmi, SUBSCRIBE to "#" with QoS 1, and then nothing.
	connect := append([]byte{0x10, 24, 0, 4, 'M', 'Q', 'T', 'T', 4, 0xc2, 0, 60, 0, 1, 'i', 0, 3, 'h', 'm', 'i', 0, 6}, "secret"...)
	connect[1] = byte(len(connect) - 2)
	if _, err := raw.Write(append(connect, 0x82, 6, 0, 1, 0, 1, '#', 1)); err != nil {
		t.Fatal(err)
	}
	ack := make([]byte, 9)
	if _, err := io.ReadFull(raw, ack); err != nil || ack[3] != 0 || ack[4] != 0x90 {
		t.Fatalf("%x, %v", ack, err)
	}
	payload := bytes.Repeat([]byte("x"), 32<<10)
	for i := 0; b.Stats().Slow == 0; i++ {
		if err := b.Publish(t.Context(), bus.Message{Topic: fmt.Sprint("big/", i%10), Payload: payload}); err != nil {
			t.Fatal(err)
		}
		if i > 20*pending {
			t.Fatal("it is not cut off")
		}
	}
}

// TestStrangers: connections that say nothing, or too much, end, and a bound of them
// leaves room.
func TestStrangers(t *testing.T) {
	b := start(t, func(c *Config) { c.MaxClients = 2 })
	var all []net.Conn
	for range 2 + strangers {
		raw, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		all = append(all, raw)
	}
	for b.Stats().Clients < 2+strangers {
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells of it
	}
	if _, err := b.dial("hmi", nil); err == nil {
		t.Error("there is no bound")
	}
	for i, raw := range all {
		if i == 0 { // a packet of 256 MiB
			_, _ = raw.Write([]byte{0x10, 0xff, 0xff, 0xff, 0x7f})
		}
		_ = raw.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := raw.Read(make([]byte, 1)); n != 0 || !isEnd(err) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	b.must("hmi", nil)
	b.must("hmi", nil)
	if _, err := b.dial("hmi", nil); err == nil {
		t.Error("a third client")
	}
	if b.Stats().Refused == 0 {
		t.Error("nothing is counted")
	}
}

func isEnd(err error) bool {
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestBounds of subscriptions and of packets.
func TestBounds(t *testing.T) {
	b := start(t, nil)
	c := b.must("hmi", nil)
	if got := c.codes(strings.Repeat("a/", maxSubscriptions)+"b", strings.Repeat("x", bus.MaxTopic+1)); got[0] < 0x80 || got[1] < 0x80 {
		t.Errorf("long filters: %x", got)
	}
	for i := range maxSubscriptions + 1 {
		if got := c.codes(fmt.Sprint("t/", i)); (got[0] < 0x80) != (i < maxSubscriptions) {
			t.Fatalf("subscription %d: %x", i, got)
		}
	}
	if got := c.codes("t/0"); got[0] >= 0x80 {
		t.Errorf("one that is there: %x", got)
	}
	_, err := c.Client.Publish(t.Context(), &paho.Publish{Topic: "t/x", Payload: make([]byte, maxPacket), QoS: 1})
	if err == nil {
		t.Error("a packet that is too large is taken")
	}
}

// TestTLS: with a certificate the broker speaks TLS.
func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"edge"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, "crt"), cert)
	write(t, filepath.Join(dir, "key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	b := start(t, func(c *Config) { c.CertFile, c.KeyFile = filepath.Join(dir, "crt"), filepath.Join(dir, "key") })
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	raw, err := tls.Dial("tcp", b.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.over(raw, "hmi", nil); err != nil {
		t.Error(err)
	}
	if _, err := b.dial("hmi", nil); err == nil {
		t.Error("without TLS")
	}
}
