package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// proxyDaemon names the cloud proxy's process and log, replicaDaemon those of a second one.
const (
	proxyDaemon   = "cloudproxy"
	replicaDaemon = "cloudproxy-2"
)

// cloudDevice carries the cloud's address. It is a bridge without ports, the
// one device that every kernel with pods has; an address on it goes with it.
func (l *Lab) cloudDevice() string { return "sk" + l.cfg.Name }

// StartProxy starts the cloud proxy and waits until it is ready.
func (l *Lab) StartProxy(ctx context.Context) error {
	return l.startProxy(ctx, proxyDaemon, l.proxyPorts())
}

// StartReplica starts a second proxy beside the first, at the same address. Edges are told
// of the first; ReplicaServer is where this one takes them.
func (l *Lab) StartReplica(ctx context.Context) error {
	return l.startProxy(ctx, replicaDaemon, l.replicaPorts())
}

// StopReplica stops it.
func (l *Lab) StopReplica(ctx context.Context) error { return l.stop(ctx, replicaDaemon, stopGrace) }

func (l *Lab) startProxy(ctx context.Context, name string, ports proxyPorts) error {
	if err := l.addCloudDevice(ctx); err != nil {
		return err
	}
	kubeconfig, err := l.proxyKubeconfig(ctx)
	if err != nil {
		return err
	}
	err = l.start(ctx, daemon{name: name, args: append([]string{
		l.Bin("cloudproxy"),
		"--kubeconfig", kubeconfig,
		"--listen", ":" + strconv.Itoa(ports.tunnel),
		"--advertise-address", l.Server(),
		"--kubelet-listen", ":" + strconv.Itoa(ports.kubelet),
		"--node-address", fmt.Sprintf("%s:%d", l.CloudAddr(), ports.kubelet),
		"--admin-listen", adminAddr(ports),
		"--namespace", Namespace,
		"--log-level", "debug",
	}, slices.Concat(l.cfg.ProxyArgs, l.proxyArgs)...)})
	if err != nil {
		return err
	}
	return l.ready(ctx, name, time.Minute, func() error { return get(ctx, "http://"+adminAddr(ports)+"/readyz") })
}

func adminAddr(ports proxyPorts) string { return "127.0.0.1:" + strconv.Itoa(ports.admin) }

// StopProxy stops it, and a second one, and takes their address away.
func (l *Lab) StopProxy(ctx context.Context) error {
	if err := errors.Join(l.StopReplica(ctx), l.HaltProxy(ctx)); err != nil {
		return err
	}
	if !exists(l.Path("proxy", "device")) || !deviceExists(l.cloudDevice()) {
		return nil
	}
	_, err := l.run(ctx, "ip", "link", "del", l.cloudDevice())
	return err
}

// HaltProxy ends the process and leaves its address, for a restart.
func (l *Lab) HaltProxy(ctx context.Context) error { return l.stop(ctx, proxyDaemon, stopGrace) }

// KillProxy kills it as a power cut does.
func (l *Lab) KillProxy(ctx context.Context) error { return l.kill(ctx, proxyDaemon) }

func (l *Lab) kill(ctx context.Context, name string) error {
	if err := l.Signal(name, syscall.SIGKILL); err != nil {
		return err
	}
	return l.stop(ctx, name, 0)
}

func (l *Lab) addCloudDevice(ctx context.Context) error {
	dev := l.cloudDevice()
	if err := l.claim(ctx, l.Path("proxy", "device"), device(dev)); err != nil {
		return err
	}
	if deviceExists(dev) {
		return nil
	}
	return l.runAll(
		ctx,
		[]string{"ip", "link", "add", dev, "type", "bridge"},
		[]string{"ip", "addr", "add", l.CloudAddr().String() + "/32", "dev", dev},
		[]string{"ip", "link", "set", dev, "up"},
	)
}

func deviceExists(name string) bool { return exists("/sys/class/net/" + name) }

// get wants a 200 from url.
func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return Final(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
