package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tests/lab"
)

// caHash is that of the only CA that an edge trusts, empty while it trusts more.
func caHash(t *testing.T, e *lab.Edge) string {
	t.Helper()
	list, err := certs.ParseBundle([]byte(readFile(t, filepath.Join(e.ConfigDir(), "pki", "ca.crt"))))
	must(t, err)
	if len(list) != 1 {
		return ""
	}
	return certs.HashCA(list[0]).String()
}

// TestCARotate puts a new CA in the place of the old one while somebody types at one
// edge, another has no UDP, and a third is off. The fourth is everybody's.
func TestCARotate(t *testing.T) {
	near, noUDP, off := newEdge(t), newEdge(t), newEdge(t)
	ns := newNamespace(t)
	runPod(t, newPod(ns, "near", near, shell("main", idle)))
	runPod(t, newPod(ns, "off", off, shell("main", idle)))
	must(t, noUDP.SetLink(t.Context(), "set", "udpblock=1"))
	must(t, off.StopAgent(t.Context()))
	old := caHash(t, near)
	command, err := theLab.CreateToken(t.Context())
	must(t, err)

	typing := &talk{name: "exec", args: []string{"-n", ns, "exec", "-i", "near", "--", "sh", "-c", "echo ready; cat"}, types: true}
	typing.start(t)
	eventually(t, "the edge that is off to be known as such", func() error {
		if out := kubectl(t, "get", "node", off.Name, "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"); out != "Unknown" {
			return fmt.Errorf("ready is %q", out)
		}
		return nil
	})
	begun := time.Now()
	out, err := theLab.CLI(t.Context(), "ca", "rotate", "--timeout", "2m")
	t.Logf("skerry ca rotate, %v:\n%s%v", time.Since(begun).Round(time.Second), out, err)
	if err == nil || !strings.Contains(err.Error(), off.Name) || !strings.Contains(err.Error(), "--force") {
		t.Fatal("the old CA goes, or who holds it up is not told")
	}
	begun = time.Now()
	out, err = theLab.CLI(t.Context(), "ca", "rotate", "--force", "--timeout", "2m")
	t.Logf("with --force, %v:\n%s", time.Since(begun).Round(time.Second), out)
	must(t, err)
	next := caHash(t, near)
	if next == "" || next == old || caHash(t, noUDP) != next || caHash(t, edge1) != next {
		t.Errorf("edges trust %q, %q and %q, which was %q", next, caHash(t, noUDP), caHash(t, edge1), old)
	}
	// The session has to find a link by the new trust, and its new certificate.
	must(t, near.SetLink(t.Context(), "set", "outage=1"))
	time.Sleep(8 * time.Second) //nolint:forbidigo // the link is dead for so long
	must(t, near.SetLink(t.Context(), "set", "outage=0"))
	before := typing.out.length()
	eventually(t, "typing to go on", func() error {
		if typing.ended() {
			t.Fatalf("the command has ended: %s", typing.errs.text())
		}
		if typing.out.length() <= before {
			return errors.New("nothing comes back")
		}
		return nil
	})
	typing.stopTyping(t)
	typing.wait(t)
	if err := typing.check(typing.out.text()); err != nil || typing.exit != 0 {
		t.Errorf("exit code %d, %v, %s", typing.exit, err, typing.errs.text())
	}

	// All of it was missed: the CA, the certificate, and who speaks for the cloud.
	must(t, off.SetLink(t.Context(), "set", "udpblock=1"))
	must(t, off.StartAgent(t.Context()))
	begun = time.Now()
	eventually(t, "the edge that was off", func() error { return try(t, "-n", ns, "exec", "off", "--", "true").err })
	t.Logf("the edge that was off is back after %v, without UDP", time.Since(begun).Round(time.Second))
	must(t, noUDP.KillAgent(t.Context()))
	must(t, noUDP.StartAgent(t.Context()))
	must(t, noUDP.WaitReady(t.Context(), patience))
	eventually(t, "the old CA to be forgotten", func() error {
		if got := caHash(t, off); got != next {
			return fmt.Errorf("it trusts %q", got)
		}
		return nil
	})

	// A replica that comes later knows all of it, and so does a machine that joins.
	must(t, theLab.RestartProxy(t.Context()))
	must(t, edge1.WaitReady(t.Context(), patience))
	late := newMachine(t)
	if out, err := late.Run(t.Context(), late.JoinArgs(command)...); err == nil || !strings.Contains(out, "token create") {
		t.Errorf("a command that pins the old CA: %v\n%s", err, out)
	}
	newEdge(t)
	status, err := theLab.CLI(t.Context(), "ca", "status")
	must(t, err)
	if !strings.Contains(status, "no rotation is under way") || !strings.Contains(status, next) {
		t.Error(status)
	}
	t.Log(status)
}

// operatorsCA writes a CA that is none of ours, as openssl would make it.
func operatorsCA(t *testing.T) (certFile, keyFile, hash string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Organization: []string{"Example Corp"}, CommonName: "Machines 2"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	certFile, keyFile = filepath.Join(t.TempDir(), "ca.crt"), filepath.Join(t.TempDir(), "ca.key")
	must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return certFile, keyFile, certs.HashCA(cert).String()
}

// TestCAOfAnOperator: edges are at two proxies when an operator's CA takes the place of
// ours, which is no longer to be trusted at all. Who was off then is out.
func TestCAOfAnOperator(t *testing.T) {
	must(t, theLab.StartReplica(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		must(t, theLab.StopReplica(ctx))
	})
	ns := newNamespace(t)
	here, there, off := newEdge(t), newEdge(t), newEdge(t)
	moveTo := func(e *lab.Edge, server string) {
		t.Helper()
		must(t, e.StopAgent(t.Context()))
		must(t, e.Configure(map[string]string{"server": server}))
		must(t, e.StartAgent(t.Context()))
	}
	moveTo(there, theLab.ReplicaServer())
	must(t, off.StopAgent(t.Context()))
	for _, e := range []*lab.Edge{here, there} {
		runPod(t, newPod(ns, e.Name, e, shell("main", idle)))
	}
	addr, err := addressOf(t, there.Name)
	must(t, err)
	if first, err := addressOf(t, here.Name); err != nil || first == addr {
		t.Fatalf("both edges are at %s: %v", addr, err)
	}
	typing := &talk{name: "exec", args: []string{"-n", ns, "exec", "-i", there.Name, "--", "sh", "-c", "echo ready; cat"}, types: true}
	typing.start(t)

	old := caHash(t, here)
	certFile, keyFile, next := operatorsCA(t)
	rotate := func(args ...string) (string, error) {
		begun := time.Now()
		out, err := theLab.CLI(t.Context(), append([]string{"ca", "rotate", "--timeout", "2m"}, args...)...)
		t.Logf("skerry ca rotate %q, %v: %v\n%s", args, time.Since(begun).Round(time.Second), err, out)
		return out, err
	}
	if _, err := rotate("--ca-cert", keyFile, "--ca-key", certFile); err == nil || !strings.Contains(err.Error(), "--ca-cert") {
		t.Errorf("files that were mixed up: %v", err)
	}
	if _, err := rotate("--distrust", "--ca-cert", certFile, "--ca-key", keyFile); err == nil || !strings.Contains(err.Error(), off.Name) {
		t.Fatalf("the edge that is off does not hold it up: %v", err)
	}
	_, err = rotate("--distrust", "--force")
	must(t, err)
	for _, e := range []*lab.Edge{here, there, edge1} {
		if got := caHash(t, e); got != next {
			t.Errorf("%s trusts %q, want %q; it was %q", e.Name, got, next, old)
		}
	}
	if _, err := rotate(); err == nil || !strings.Contains(err.Error(), "--ca-cert") {
		t.Errorf("an operator's CA is replaced by one of ours: %v", err)
	}
	typing.stopTyping(t)
	typing.wait(t)
	if err := typing.check(typing.out.text()); err != nil || typing.exit != 0 {
		t.Errorf("exit code %d, %v, %s", typing.exit, err, typing.errs.text())
	}

	// Either proxy takes the other's edges, with certificates that it has not signed.
	moveTo(here, theLab.ReplicaServer())
	moveTo(there, theLab.Server())
	for _, e := range []*lab.Edge{here, there} {
		eventually(t, e.Name+" at the other proxy", func() error { return try(t, "-n", ns, "exec", e.Name, "--", "true").err })
	}
	// The edge that was off learns of the CA, and has to join again all the same.
	must(t, off.StartAgent(t.Context()))
	eventually(t, "the edge that was off to be told what to do", func() error {
		if log := readFile(t, off.AgentLog()); !strings.Contains(log, "skerry join --force") {
			return errors.New(lastLine(log))
		}
		return nil
	})
	must(t, off.StopAgent(t.Context()))
	token, err := theLab.CreateToken(t.Context())
	must(t, err)
	if token.CAHash != next {
		t.Errorf("join commands pin %s, want %s", token.CAHash, next)
	}
	token.Server = theLab.ReplicaServer()
	must(t, off.Join(t.Context(), token, "--force"))
	must(t, off.StartAgent(t.Context()))
	must(t, off.WaitReady(t.Context(), patience))
}
