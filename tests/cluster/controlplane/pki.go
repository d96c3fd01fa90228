package controlplane

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// pki is the directory of keys and certificates.
type pki struct {
	dir     string
	now     time.Time
	changed bool // something was written, so running components hold old files
}

// preparePKI makes what is missing, about to expire or described otherwise now,
// keeps the rest, and reports whether it wrote anything.
func (p *Plane) preparePKI(now time.Time) (changed bool, err error) {
	k := &pki{dir: p.path("pki"), now: now}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return false, err
	}
	ca, err := k.authority("ca", "kubernetes-ca")
	if err != nil {
		return false, err
	}
	front, err := k.authority("front-proxy-ca", "front-proxy-ca")
	if err != nil {
		return false, err
	}
	for _, l := range p.leaves() {
		if err := k.leaf(ca, l); err != nil {
			return false, err
		}
	}
	if err := k.leaf(front, leaf{name: "front-proxy-client", user: "front-proxy-client"}); err != nil {
		return false, err
	}
	if err := k.signingKey("sa"); err != nil {
		return false, err
	}
	for name, to := range map[string]string{
		"admin":           p.Kubeconfig(),
		ControllerManager: p.path("pki", ControllerManager+".kubeconfig"),
		Scheduler:         p.path("pki", Scheduler+".kubeconfig"),
	} {
		if err := k.kubeconfig(name, p.serverURL(), to); err != nil {
			return false, err
		}
	}
	return k.changed, nil
}

// leaves are the certificates signed by the cluster's authority.
func (p *Plane) leaves() []leaf {
	hosts := []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"127.0.0.1", p.cfg.ServiceCIDR.Masked().Addr().Next().String(),
	}
	if !p.cfg.Address.IsUnspecified() && p.cfg.Address.String() != "127.0.0.1" {
		hosts = append(hosts, p.cfg.Address.String())
	}
	hosts = append(hosts, p.cfg.Names...)
	local := []string{"localhost", "127.0.0.1"}
	masters := []string{"system:masters"}
	return []leaf{
		{name: "apiserver", user: "kube-apiserver", hosts: hosts},
		{name: "apiserver-kubelet-client", user: "kube-apiserver-kubelet-client", groups: masters},
		{name: "admin", user: "admin", groups: masters},
		{name: ControllerManager, user: "system:kube-controller-manager", hosts: local},
		{name: Scheduler, user: "system:kube-scheduler", hosts: local},
	}
}

func (k *pki) authority(file, name string) (*authority, error) {
	cert, key, err := k.readPair(file)
	if err != nil {
		return nil, err
	}
	if a, err := parseAuthority(cert, key); err == nil && k.now.Add(renewBefore).Before(a.cert.NotAfter) {
		return a, nil
	}
	a, err := newAuthority(name, k.now)
	if err != nil {
		return nil, fmt.Errorf("make authority %s: %w", name, err)
	}
	cert, key, err = a.pem()
	if err != nil {
		return nil, err
	}
	return a, k.writePair(file, cert, key)
}

func (k *pki) leaf(a *authority, l leaf) error {
	cert, key, err := k.readPair(l.name)
	if err != nil {
		return err
	}
	// A run killed between the two files leaves a pair that does not match.
	if _, err := tls.X509KeyPair(cert, key); err == nil && a.fits(cert, l, k.now) {
		return nil
	}
	cert, key, err = a.issue(l, k.now)
	if err != nil {
		return fmt.Errorf("make certificate %s: %w", l.name, err)
	}
	return k.writePair(l.name, cert, key)
}

// signingKey is the pair that signs and verifies ServiceAccount tokens.
func (k *pki) signingKey(name string) error {
	data, err := os.ReadFile(k.file(name + ".key"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := parseKey(data)
	if err != nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	public, err := encodePublic(&key.PublicKey)
	if err != nil {
		return err
	}
	return errors.Join(k.write(k.file(name+".key"), private), k.write(k.file(name+".pub"), public))
}

// kubeconfig writes the kubeconfig of the holder of certificate user.
func (k *pki) kubeconfig(user, server, to string) error {
	cert, key, err := k.readPair(user)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(k.file("ca.crt"))
	if err != nil {
		return err
	}
	b64 := base64.StdEncoding.EncodeToString
	data := fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: devcluster
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: %s
  user: {client-certificate-data: %s, client-key-data: %s}
contexts:
- name: devcluster
  context: {cluster: devcluster, user: %s}
current-context: devcluster
`, server, b64(ca), user, b64(cert), b64(key), user)
	return k.write(to, data)
}

func (k *pki) file(name string) string { return filepath.Join(k.dir, name) }

// readPair returns nothing, and no error, for a pair that is not there.
func (k *pki) readPair(name string) (cert, key []byte, err error) {
	cert, certErr := os.ReadFile(k.file(name + ".crt"))
	key, keyErr := os.ReadFile(k.file(name + ".key"))
	if err := errors.Join(certErr, keyErr); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		}
		return nil, nil, err
	}
	return cert, key, nil
}

func (k *pki) writePair(name string, cert, key []byte) error {
	return errors.Join(k.write(k.file(name+".key"), key), k.write(k.file(name+".crt"), cert))
}

// write replaces a file that holds something else.
func (k *pki) write(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	k.changed = true
	return replaceFile(path, data)
}

// replaceFile writes a file at once, so that nobody reads half a key.
func replaceFile(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
