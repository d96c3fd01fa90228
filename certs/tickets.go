package certs

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"sync"
	"time"
)

// ticketDay is how long tickets are sealed with one key. The key is good for
// opening them as long again.
const ticketDay = 24 * time.Hour

// tickets seals session tickets with keys that follow from a secret and the day:
// whoever has the secret opens them, after a restart too, and one that is stolen
// is worth nothing after two days. It is used through WrapSession and
// UnwrapSession because a tls.Config that was cloned, as QUIC does for each
// connection, would keep the keys of the day on which it was.
type tickets struct {
	secret [32]byte

	mu   sync.Mutex // guards the following fields
	day  int64
	keys *tls.Config // only for its keys
}

func newTickets(secret [32]byte) *tickets {
	return &tickets{secret: secret, keys: &tls.Config{MinVersion: tls.VersionTLS13}, day: -1}
}

// wrap fits tls.Config.WrapSession.
func (t *tickets) wrap(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
	return t.today().EncryptTicket(cs, s)
}

// unwrap fits tls.Config.UnwrapSession. A ticket that can't be opened means a
// whole handshake.
func (t *tickets) unwrap(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
	return t.today().DecryptTicket(ticket, cs)
}

func (t *tickets) today() *tls.Config {
	day := time.Now().Unix() / int64(ticketDay/time.Second)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.day != day {
		t.day = day
		t.keys.SetSessionTicketKeys([][32]byte{t.key(day), t.key(day - 1)})
	}
	return t.keys
}

func (t *tickets) key(day int64) [32]byte {
	mac := hmac.New(sha256.New, t.secret[:])
	mac.Write(binary.BigEndian.AppendUint64([]byte("day "), uint64(day)))
	return [32]byte(mac.Sum(nil))
}

// sessionCache keeps a ticket for the certificate with which it was got: a resumed
// session shows the old one for as long as it is valid, and who has a new one
// wants that to be seen.
type sessionCache struct {
	tls.ClientSessionCache

	certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
}

// Get implements tls.ClientSessionCache.
func (c sessionCache) Get(key string) (*tls.ClientSessionState, bool) {
	return c.ClientSessionCache.Get(c.key(key))
}

// Put implements tls.ClientSessionCache.
func (c sessionCache) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(c.key(key), s)
}

func (c sessionCache) key(key string) string {
	cert, err := c.certificate(&tls.CertificateRequestInfo{Version: tls.VersionTLS13})
	if err != nil || len(cert.Certificate) == 0 {
		return key // the handshake fails, or is refused
	}
	sum := sha256.Sum256(cert.Certificate[0])
	return key + " " + string(sum[:])
}
