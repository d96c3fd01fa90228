package controlplane

import (
	"fmt"
	"net/netip"
	"strconv"
)

// ports is how many consecutive ports a control plane uses.
const ports = 5

// port is the port on which local clients reach a component.
func (p *Plane) port(component string) int {
	switch component {
	case Etcd:
		return p.cfg.PortBase + 1
	case ControllerManager:
		return p.cfg.PortBase + 3
	case Scheduler:
		return p.cfg.PortBase + 4
	default:
		return p.cfg.PortBase
	}
}

// listens are the addresses that a component binds.
func (p *Plane) listens(component string) []netip.AddrPort {
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	at := func(a netip.Addr, port int) netip.AddrPort { return netip.AddrPortFrom(a, uint16(port)) }
	switch component {
	case APIServer:
		return []netip.AddrPort{at(p.cfg.Address, p.port(component))}
	case Etcd:
		return []netip.AddrPort{at(local, p.port(Etcd)), at(local, p.cfg.PortBase+2)}
	default:
		return []netip.AddrPort{at(local, p.port(component))}
	}
}

// arguments is the command line of a component after its name.
func (p *Plane) arguments(component string) []string {
	var args []string
	switch component {
	case Etcd:
		args = p.etcdArguments()
	case APIServer:
		args = p.apiServerArguments()
	case ControllerManager:
		args = p.controllerManagerArguments()
	case Scheduler:
		args = p.schedulerArguments()
	}
	return append(args, p.cfg.Extra[component]...)
}

func (p *Plane) etcdArguments() []string {
	client := fmt.Sprintf("http://127.0.0.1:%d", p.port(Etcd))
	peer := fmt.Sprintf("http://127.0.0.1:%d", p.cfg.PortBase+2)
	return []string{
		"--data-dir=" + p.path("etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		// Every write of the cluster waits for etcd's fsync, which takes tens of
		// milliseconds on a shared disk. What a killed etcd wrote is still in the
		// page cache; only a power cut loses it, and then the data is made anew.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

func (p *Plane) apiServerArguments() []string {
	pki := func(name string) string { return p.path("pki", name) }
	args := []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", p.port(Etcd)),
		"--bind-address=" + p.cfg.Address.String(),
		"--secure-port=" + strconv.Itoa(p.port(APIServer)),
		"--service-cluster-ip-range=" + p.cfg.ServiceCIDR.String(),
		"--allow-privileged",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth",
		"--tls-cert-file=" + pki("apiserver.crt"),
		"--tls-private-key-file=" + pki("apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pki("sa.pub"),
		"--service-account-signing-key-file=" + pki("sa.key"),
		// As kubeadm sets it, so that a Node is dialled as in most clusters.
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
		"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + pki("front-proxy-client.key"),
		// On shutdown the server waits for its clients' watches, up to a minute;
		// with a period to drain them it ends them when the period is over.
		"--shutdown-watch-termination-grace-period=1s",
	}
	switch {
	case p.cfg.Address.IsLoopback():
		// Endpoints must not be loopback addresses, so the Service "kubernetes"
		// stays without any; and without a default route the server would not
		// find an address to advertise and stop.
		args = append(args, "--advertise-address="+p.cfg.Address.String(), "--endpoint-reconciler-type=none")
	case !p.cfg.Address.IsUnspecified():
		args = append(args, "--advertise-address="+p.cfg.Address.String())
	}
	return args
}

// localServer are the flags that the two clients of kube-apiserver share: who
// they are, and the port on which they say how they are.
func (p *Plane) localServer(component string) []string {
	kubeconfig := p.path("pki", component+".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(p.port(component)),
		"--tls-cert-file=" + p.path("pki", component+".crt"),
		"--tls-private-key-file=" + p.path("pki", component+".key"),
		"--leader-elect=false",
	}
}

func (p *Plane) controllerManagerArguments() []string {
	pki := func(name string) string { return p.path("pki", name) }
	return append(
		p.localServer(ControllerManager),
		"--controllers=*,bootstrapsigner,tokencleaner",
		"--use-service-account-credentials",
		// Dozens of controllers start at once; the default of 20 requests a second
		// would hold the first ServiceAccounts back for seconds.
		"--kube-api-qps=200",
		"--kube-api-burst=400",
		"--root-ca-file="+pki("ca.crt"),
		"--service-account-private-key-file="+pki("sa.key"),
		"--cluster-signing-cert-file="+pki("ca.crt"),
		"--cluster-signing-key-file="+pki("ca.key"),
		"--client-ca-file="+pki("ca.crt"),
		"--requestheader-client-ca-file="+pki("front-proxy-ca.crt"),
	)
}

func (p *Plane) schedulerArguments() []string {
	return p.localServer(Scheduler)
}
