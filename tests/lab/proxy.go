package lab

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// proxyDaemon names the cloud proxy's process and log.
const proxyDaemon = "cloudproxy"

// cloudDevice carries the cloud's address. It is a bridge without ports, the
// one device that every kernel with pods has; an address on it goes with it.
func (l *Lab) cloudDevice() string { return "sk" + l.cfg.Name }

// StartProxy starts the cloud proxy and waits until it is ready.
func (l *Lab) StartProxy(ctx context.Context) error {
	if err := l.addCloudDevice(ctx); err != nil {
		return err
	}
	kubeconfig, err := l.proxyKubeconfig(ctx)
	if err != nil {
		return err
	}
	err = l.start(ctx, daemon{name: proxyDaemon, args: []string{
		l.Bin("cloudproxy"),
		"--kubeconfig", kubeconfig,
		"--listen", ":" + strconv.Itoa(l.tunnelPort()),
		"--advertise-address", l.Server(),
		"--kubelet-listen", ":" + strconv.Itoa(l.kubeletPort()),
		"--node-address", fmt.Sprintf("%s:%d", l.CloudAddr(), l.kubeletPort()),
		"--admin-listen", "127.0.0.1:" + strconv.Itoa(l.adminPort()),
		"--namespace", Namespace,
		"--log-level", "debug",
	}})
	if err != nil {
		return err
	}
	return l.ready(ctx, proxyDaemon, time.Minute, func() error { return get(ctx, l.AdminURL()+"/readyz") })
}

// StopProxy stops it and takes its address away.
func (l *Lab) StopProxy(ctx context.Context) error {
	if err := l.HaltProxy(ctx); err != nil {
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
	if err := claim(l.Path("proxy", "device"), "/sys/class/net/"+dev); err != nil {
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
