package bus_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/skerry-io/skerry/edgeagent/bus/external"
)

// otherBroker is one that nobody here wrote, Debian's.
type otherBroker struct {
	t    *testing.T
	addr string
	cmd  *exec.Cmd
}

// startBroker needs Debian's package of that name. Without SKERRY_E2E a machine that
// has none skips.
func startBroker(t *testing.T) *otherBroker {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/mosquitto")
	}
	switch {
	case err != nil && os.Getenv("SKERRY_E2E") == "":
		t.Skip("there is no mosquitto: apt-get install mosquitto mosquitto-clients")
	case err != nil:
		t.Fatal("apt-get install mosquitto mosquitto-clients")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &otherBroker{t: t, addr: l.Addr().String()}
	_ = l.Close()
	_, port, _ := net.SplitHostPort(m.addr)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\npersistence false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start(path, conf)
	return m
}

func (m *otherBroker) start(path, conf string) {
	m.t.Helper()
	m.cmd = exec.Command(path, "-c", conf)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(m.kill)
	for limit := time.Now().Add(time.Minute); ; {
		c, err := net.Dial("tcp", m.addr)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(limit) {
			m.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // nothing tells of it
	}
}

func (m *otherBroker) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

// restart kills the broker, which forgets everything.
func (m *otherBroker) restart() {
	m.t.Helper()
	m.kill()
	m.start(m.cmd.Path, m.cmd.Args[2])
}

// TestOther: with a broker of others, what is retained is there again when the broker has
// forgotten it, commands are carried out, and the last will tells of the agent's end.
func TestOther(t *testing.T) {
	m := startBroker(t)
	e := newEdge(t)
	x, err := external.New(external.Config{Broker: "mqtt://" + m.addr, Node: "edge", Command: e.bus.Received})
	if err != nil {
		t.Fatal(err)
	}
	stop := e.run(func(ctx context.Context) error { return x.Run(ctx, e.bus.Run) })
	for range 2 {
		c := dial(t, m.addr, "")
		c.subscribe("#")
		c.until("the edge", func(p *paho.Publish) bool {
			return p.Topic == "skerry/edges/edge" && strings.HasPrefix(string(p.Payload), `{"online":true`)
		})
		c.until("health", func(p *paho.Publish) bool {
			return p.Topic == press+"health" && strings.Contains(string(p.Payload), `"connected":true`)
		})
		before := decode[value](t, c.on(press+"value/count")).Value.(float64)
		if v := decode[value](t, c.on(press+"value/count")).Value.(float64); v < before {
			t.Errorf("%v after %v", v, before)
		}
		c.publish(&paho.Publish{Topic: press + "set/setpoint", Payload: []byte(`{"value":-7,"id":"a"}`), QoS: 1, Properties: &paho.PublishProperties{
			ResponseTopic: "my/answer", CorrelationData: []byte("x"),
		}})
		p := c.on("my/answer")
		if r := decode[result](t, p); !r.OK || string(p.Properties.CorrelationData) != "x" {
			t.Errorf("%+v", r)
		}
		// One that is retained is refused when it comes, and not heard at a reconnect.
		c.publish(&paho.Publish{Topic: press + "set/setpoint", Payload: []byte(`{"value":9,"id":"kept"}`), QoS: 1, Retain: true})
		if r := decode[result](t, c.until("an answer", func(p *paho.Publish) bool {
			return p.Topic == press+"result" && strings.Contains(string(p.Payload), `"ok":false`)
		})); !strings.Contains(r.Error, "may not be retained") {
			t.Errorf("%+v", r)
		}
		// Of a device that another edge may have, nothing is said.
		c.publish(&paho.Publish{Topic: "skerry/plant/other/set/setpoint", Payload: []byte(`{"value":9}`), QoS: 1})
		m.restart()
	}
	last := dial(t, m.addr, "")
	last.subscribe("skerry/edges/+", press+"#")
	last.until("the edge", func(p *paho.Publish) bool { return strings.HasPrefix(string(p.Payload), `{"online":true`) })
	e.remove("press-1")
	last.until("the end of its values", func(p *paho.Publish) bool { return p.Topic == press+"value/count" && len(p.Payload) == 0 })
	stop()
	last.until("the edge's end", func(p *paho.Publish) bool { return string(p.Payload) == `{"online":false}` })
	if s := e.bus.Stats(); s.Done != 2 {
		t.Errorf("%+v", s)
	}
}

// TestMosquittoClients: what Debian's clients send and show.
func TestMosquittoClients(t *testing.T) {
	sub, err := exec.LookPath("mosquitto_sub")
	pub, err2 := exec.LookPath("mosquitto_pub")
	switch {
	case (err != nil || err2 != nil) && os.Getenv("SKERRY_E2E") == "":
		t.Skip("there is no mosquitto_sub: apt-get install mosquitto-clients")
	case err != nil || err2 != nil:
		t.Fatal("apt-get install mosquitto-clients")
	}
	e := newEdge(t)
	b, _ := e.embed()
	host, port, _ := net.SplitHostPort(b.Addr().String())
	for _, version := range []string{"mqttv311", "mqttv5"} {
		client := []string{"-h", host, "-p", port, "-u", "hmi", "-P", "secret", "-V", version}
		out, err := exec.Command(sub, append(client, "-t", press+"value/count", "-C", "3", "-W", "60")...).CombinedOutput()
		if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); err != nil || len(lines) != 3 || !strings.Contains(lines[2], `"quality":"Good"`) {
			t.Errorf("%s: %v: %s", version, err, out)
		}
		answer := exec.Command(sub, append(client, "-t", press+"result", "-C", "1", "-W", "60", "-d")...)
		text := &strings.Builder{}
		answer.Stdout = text
		if err := answer.Start(); err != nil {
			t.Fatal(err)
		}
		// It need not have subscribed yet: commands until one is answered.
		heard := make(chan error, 1)
		go func() { heard <- answer.Wait() }()
		for done := false; !done; {
			if out, err := exec.Command(pub, append(client, "-t", press+"set/setpoint", "-m", `{"value":5,"id":"m"}`, "-q", "1")...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			select {
			case err := <-heard:
				if done = true; err != nil || !strings.Contains(text.String(), `{"id":"m","set":"setpoint","ok":true}`) {
					t.Errorf("%s: %v: %s", version, err, text)
				}
			case <-time.After(100 * time.Millisecond):
			}
		}
		out, err = exec.Command(sub, "-h", host, "-p", port, "-u", "hmi", "-P", "wrong", "-V", version, "-t", "#", "-W", "5").CombinedOutput()
		if err == nil || !strings.Contains(strings.ToLower(string(out)), "refused") && !strings.Contains(strings.ToLower(string(out)), "not authori") && !strings.Contains(strings.ToLower(string(out)), "bad user") {
			t.Errorf("a wrong password: %v: %s", err, out)
		}
	}
}
