package wire

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
)

const typeDigest Type = 27

const (
	// MaxBuckets bounds the buckets of a Digest, and so its size: 2.3 KiB and the
	// expiries of tokens.
	MaxBuckets = 256
	// maxExpiries bounds the tokens of a Digest, far beyond what an edge holds.
	maxExpiries = 8 << 10
	// perBucket is how many objects a bucket has when they are few. Most reconnects
	// find nothing changed and pay for all buckets; one that finds a change pays for the
	// keys and versions of one, 110 bytes for each object in it. The digest is small
	// enough to be sent twice, with Hello and after it, which the tunnel may do.
	perBucket = 16
)

// Digest says in short what the edge holds, at the start of a desired stream.
// Objects are dealt into buckets by their keys; each bucket has a hash over its
// keys and versions in order. The cloud makes the same out of what the edge should
// hold and asks by Want for the buckets that differ. An edge that holds nothing
// has no buckets.
type Digest struct {
	// Base is a time in minutes since 1970 from which Expiries count.
	Base    uint64
	Buckets []Bucket
}

// Bucket is one part of a Digest.
type Bucket struct {
	// Sum is the beginning of SHA-256 over keys and versions, zero for no objects.
	Sum [8]byte
	// Expiries are those of the tokens in the bucket, in order of their keys, in
	// minutes. Nobody but the edge knows them, so they are not in Sum.
	Expiries []uint64
}

// Type implements Frame.
func (*Digest) Type() Type { return typeDigest }

func (f *Digest) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Base)
	b = appendUint(b, uint64(len(f.Buckets)))
	for i := range f.Buckets {
		b = append(b, f.Buckets[i].Sum[:]...)
		b = appendUint(b, uint64(len(f.Buckets[i].Expiries)))
		for _, e := range f.Buckets[i].Expiries {
			b = appendUint(b, e)
		}
	}
	return b
}

func (f *Digest) parsePayload(d *decoder) {
	f.Base = d.uint()
	n := d.count(9)
	if n > MaxBuckets {
		d.fail("too many buckets")
		return
	}
	left := maxExpiries
	for range n {
		var b Bucket
		d.raw(b.Sum[:])
		m := d.count(1)
		if left -= m; left < 0 {
			d.fail("too many tokens")
			return
		}
		for range m {
			b.Expiries = append(b.Expiries, d.uint())
		}
		if d.err != nil {
			return
		}
		f.Buckets = append(f.Buckets, b)
	}
}

// BucketCount says how many buckets a Digest of so many objects has.
func BucketCount(objects int) int {
	if objects == 0 {
		return 0
	}
	n := 1
	for n < MaxBuckets && n*perBucket < objects {
		n *= 2
	}
	return n
}

// BucketOf says in which of n buckets the object under key is.
func BucketOf(key string, n int) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // a hash takes everything
	return int(h.Sum64() % uint64(n))
}

// Digester makes a Digest.
type Digester struct {
	digest Digest
	hashes []hash.Hash
	buf    []byte
}

// NewDigester begins a Digest of n buckets, at most MaxBuckets.
func NewDigester(n int) *Digester {
	return &Digester{digest: Digest{Buckets: make([]Bucket, n)}, hashes: make([]hash.Hash, n)}
}

// Add adds an object and gives its bucket. Objects come in order of their keys.
func (d *Digester) Add(key, version string) int {
	i := BucketOf(key, len(d.hashes))
	if strings.HasPrefix(key, string(ResourceTokens)+"/") {
		uid, expiry, ok := tokenMinutes(version)
		if ok {
			version = uid
			d.digest.Buckets[i].Expiries = append(d.digest.Buckets[i].Expiries, expiry)
		}
	}
	if d.hashes[i] == nil {
		d.hashes[i] = sha256.New()
	}
	d.buf = appendBytes(appendBytes(d.buf[:0], key), version)
	_, _ = d.hashes[i].Write(d.buf)
	return i
}

// tokenMinutes takes a token's version apart: who it is for, and when it expires,
// rounded down.
func tokenMinutes(version string) (uid string, minutes uint64, ok bool) {
	uid, text, ok := strings.Cut(version, "/")
	if !ok {
		return "", 0, false
	}
	seconds, err := strconv.ParseUint(text, 10, 62)
	return uid, seconds / 60, err == nil
}

// Digest ends the work.
func (d *Digester) Digest() *Digest {
	f := &d.digest
	first := true
	for i := range f.Buckets {
		if d.hashes[i] != nil {
			copy(f.Buckets[i].Sum[:], d.hashes[i].Sum(nil))
		}
		if e := f.Buckets[i].Expiries; len(e) > 0 {
			if least := slices.Min(e); first || least < f.Base {
				f.Base, first = least, false
			}
		}
	}
	for i := range f.Buckets {
		for j := range f.Buckets[i].Expiries {
			f.Buckets[i].Expiries[j] -= f.Base
		}
	}
	return f
}

// Differ gives the buckets of f that are not those of other, which has as many.
func (f *Digest) Differ(other *Digest) []uint64 {
	var list []uint64
	for i := range f.Buckets {
		a, b := &f.Buckets[i], &other.Buckets[i]
		if !bytes.Equal(a.Sum[:], b.Sum[:]) || len(a.Expiries) != len(b.Expiries) {
			list = append(list, uint64(i))
		}
	}
	return list
}
