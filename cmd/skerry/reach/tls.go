package reach

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"time"
)

const tlsTimeout = 15 * time.Second

// Server is what a TLS handshake tells of the server at an address. Nothing of it is
// verified: that is for the join, which pins the CA.
type Server struct {
	Chain []*x509.Certificate
	// Date is the server's clock, Now this machine's at that moment; Date is zero when
	// the server does not say.
	Date, Now time.Time
	RTT       time.Duration // of the TCP handshake
}

// TLS asks the server at address, HOST:PORT, by TCP.
func TLS(ctx context.Context, address string) (Server, error) {
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	var s Server
	begin := time.Now()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return s, err
	}
	s.RTT = time.Since(begin)
	defer raw.Close() //nolint:errcheck // what was wanted was read
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return s, err
	}
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: host,
		InsecureSkipVerify: true, // nothing is sent, and nothing believed
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return s, fmt.Errorf("TLS handshake: %w", err)
	}
	s.Chain = conn.ConnectionState().PeerCertificates
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+address+"/", http.NoBody)
	if err != nil {
		return s, err
	}
	if err := req.Write(conn); err != nil {
		return s, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is empty
	s.Now = time.Now()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		s.Date = date
	}
	return s, nil
}
