package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

// ticketServer is a proxy with the given secret that has just started.
func ticketServer(tb testing.TB, ca *issuer.CA, of string, secret byte) *tls.Config {
	tb.Helper()
	pair := serverPair(tb, ca, of)
	conf, err := certs.ServerTLS(certs.ServerConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair, nil },
		ClientCAs:      ca.Pool(), Cluster: of, NextProtos: []string{alpn},
		Revoked:      func(certs.Identity, *x509.Certificate) bool { return false },
		TicketSecret: [32]byte{secret},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return conf
}

func wantResumed(tb testing.TB, server, client *tls.Config, want bool) *x509.Certificate {
	tb.Helper()
	// QUIC clones the configuration for each connection.
	srv, cli := handshake(tb, server.Clone(), client.Clone())
	if srv.err != nil || cli.err != nil {
		tb.Fatalf("server: %v, client: %v", srv.err, cli.err)
	}
	if srv.state.DidResume != want || cli.state.DidResume != want {
		tb.Fatalf("resumed: %t and %t, want %t", srv.state.DidResume, cli.state.DidResume, want)
	}
	if len(srv.state.VerifiedChains) == 0 {
		tb.Fatal("no verified chain")
	}
	return srv.state.PeerCertificates[0]
}

func TestTicketsOutliveAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, cluster)
		edge := edgePair(t, ca, certs.Identity{Cluster: cluster, Node: "edge-1"}, 10*24*time.Hour)
		client := clientTLS(t, ca, edge, tls.NewLRUClientSessionCache(4))
		wantResumed(t, ticketServer(t, ca, cluster, 1), client, false)
		wantResumed(t, ticketServer(t, ca, cluster, 1), client, true)
		wantResumed(t, ticketServer(t, ca, cluster, 2), client, false) // gives the ticket of another secret
		wantResumed(t, ticketServer(t, ca, cluster, 1), client, false)
	})
}

func TestTicketsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, cluster)
		edge := edgePair(t, ca, certs.Identity{Cluster: cluster, Node: "edge-1"}, 10*24*time.Hour)
		client := clientTLS(t, ca, edge, tls.NewLRUClientSessionCache(4))
		server := ticketServer(t, ca, cluster, 1)
		wantResumed(t, server, client, false) // the bubble begins at midnight UTC
		<-time.After(48*time.Hour - time.Second)
		wantResumed(t, server, client, true) // and gives a ticket sealed with that day's key
		<-time.After(24 * time.Hour)
		wantResumed(t, server, client, true)
		<-time.After(24 * time.Hour)
		wantResumed(t, server, client, true)
		<-time.After(48 * time.Hour)
		wantResumed(t, server, client, false)
	})
}

func TestResumptionIsOfTheClusterOnly(t *testing.T) {
	ca := newCA(t, cluster)
	edge := edgePair(t, ca, certs.Identity{Cluster: cluster, Node: "edge-1"}, 0)
	client := clientTLS(t, ca, edge, tls.NewLRUClientSessionCache(4))
	wantResumed(t, ticketServer(t, ca, cluster, 1), client, false)
	client.VerifyConnection = nil // this is about the server's
	srv, cli := handshake(t, ticketServer(t, ca, "x", 1), client)
	if srv.err == nil || !strings.Contains(srv.err.Error(), "another cluster") || cli.err == nil {
		t.Errorf("server: %v, client: %v; want a refusal", srv.err, cli.err)
	}
	if !srv.state.DidResume {
		t.Error("the refused session was not a resumed one: the test shows nothing")
	}
}

func TestNewCertificateIsSeen(t *testing.T) {
	ca := newCA(t, cluster)
	id := certs.Identity{Cluster: cluster, Node: "edge-1"}
	pairs := []*tls.Certificate{edgePair(t, ca, id, 0), edgePair(t, ca, id, 0)}
	pair := pairs[0]
	client, err := certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil },
		RootCAs:              ca.Pool(), Cluster: cluster, NextProtos: []string{alpn},
		SessionCache: tls.NewLRUClientSessionCache(4),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := ticketServer(t, ca, cluster, 1)
	for i, want := range []bool{false, true, false, true} {
		pair = pairs[i/2]
		if got := wantResumed(t, server, client, want); string(got.Raw) != string(pair.Certificate[0]) {
			t.Errorf("handshake %d: the server sees an old certificate", i)
		}
	}
}
