package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// pollInterval is how soon a replaced certificate is noticed. Two stat calls in
// ten seconds cost nothing, and unlike inotify they survive renamed directories,
// projected volumes and network file systems.
const pollInterval = 10 * time.Second

// KeyPairFile is a certificate and key read from two PEM files, read again when
// either changes. A pair that can't be read or does not match leaves the old one
// in place: replacing two files is never atomic, the next poll sees both.
type KeyPairFile struct {
	certFile, keyFile string
	log               *slog.Logger

	mu    sync.Mutex // guards the following fields
	pair  *tls.Certificate
	stamp [2]fileStamp
}

// fileStamp tells versions of a file apart. The size is there for file systems
// with coarse times.
type fileStamp struct {
	modTime time.Time
	size    int64
}

// NewKeyPairFile reads the pair once, so that a missing or broken file shows at
// start. A nil log discards.
func NewKeyPairFile(certFile, keyFile string, log *slog.Logger) (*KeyPairFile, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &KeyPairFile{certFile: certFile, keyFile: keyFile, log: log.With("file", certFile)}
	if _, err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Run polls the files until ctx ends.
func (f *KeyPairFile) Run(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		changed, err := f.Reload()
		switch {
		case err != nil && !failing:
			// Once, not every ten seconds: the old pair keeps working.
			f.log.Error("certificate not reloaded", "err", err)
		case changed:
			f.log.Info("certificate reloaded", "not_after", f.Current().Leaf.NotAfter)
		}
		failing = err != nil
	}
}

// Reload reads the files again when they changed, and reports whether the pair
// in use is a new one.
func (f *KeyPairFile) Reload() (bool, error) { return f.read(false) }

// Replaced reads the files that the caller has replaced. They need not look changed: a
// certificate may be as long as the one before, and have come in the same tick of the
// file system's clock.
func (f *KeyPairFile) Replaced() error {
	_, err := f.read(true)
	return err
}

func (f *KeyPairFile) read(again bool) (bool, error) {
	stamp, err := f.stat()
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	same := f.pair != nil && stamp == f.stamp && !again
	f.mu.Unlock()
	if same {
		return false, nil
	}
	pair, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err != nil {
		return false, fmt.Errorf("load key pair %s: %w", f.certFile, err)
	}
	// The stamp is from before the read: a change in between is read once more.
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pair, f.stamp = &pair, stamp
	return true, nil
}

func (f *KeyPairFile) stat() (stamp [2]fileStamp, err error) {
	for i, name := range []string{f.certFile, f.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return stamp, fmt.Errorf("load key pair: %w", err)
		}
		stamp[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamp, nil
}

// Current gives the pair in use; Leaf is parsed.
func (f *KeyPairFile) Current() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pair
}

// GetCertificate fits tls.Config.
func (f *KeyPairFile) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.Current(), nil
}

// GetClientCertificate fits tls.Config.
func (f *KeyPairFile) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return f.Current(), nil
}

// Identity gives the identity that the pair in use names.
func (f *KeyPairFile) Identity() (Identity, error) {
	pair := f.Current()
	if pair.Leaf == nil {
		return Identity{}, errors.New("key pair has no parsed leaf")
	}
	return CertificateIdentity(pair.Leaf)
}
