package wire

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/quic-go/quicvarint"
)

func TestDigest(t *testing.T) {
	keys := []string{"configmaps/d/a", "configmaps/d/b", "pods/d/p", "tokens/d/p/1"}
	digest := func(versions ...string) *Digest {
		d := NewDigester(1)
		for i, v := range versions {
			if i < len(keys) {
				d.Add(keys[i], v)
			}
		}
		return d.Digest()
	}
	held := digest("u/1", "u/2", "u/3", "uid/6119")
	if want := []uint64{0}; held.Base != 101 || !cmp.Equal(held.Buckets[0].Expiries, want) {
		t.Errorf("expiries %v from %d, want %v from 101", held.Buckets[0].Expiries, held.Base, want)
	}
	for _, tt := range []struct {
		name  string
		other *Digest
		equal bool
	}{
		{"the same", digest("u/1", "u/2", "u/3", "uid/6119"), true},
		{"another expiry", digest("u/1", "u/2", "u/3", "uid/0"), true},
		{"a token for another pod", digest("u/1", "u/2", "u/3", "uie/6119"), false},
		{"another version", digest("u/1", "u/3", "u/3", "uid/6119"), false},
		{"one less", digest("u/1", "u/2", "u/3"), false},
		{"nothing", digest(), false},
		{"a token without an expiry", digest("u/1", "u/2", "u/3", "uid"), false},
	} {
		if got := len(held.Differ(tt.other)) == 0; got != tt.equal {
			t.Errorf("%s: equal %t, want %t", tt.name, got, tt.equal)
		}
	}
	// One key more in front of a version must not make the hash of another split.
	a, b := NewDigester(1), NewDigester(1)
	a.Add("configmaps/d/ab", "c")
	b.Add("configmaps/d/a", "bc")
	if len(a.Digest().Differ(b.Digest())) == 0 {
		t.Error("key and version run into each other")
	}
}

func TestDigestIsSmall(t *testing.T) {
	for _, tt := range []struct{ objects, tokens, max int }{
		{0, 0, 5},
		{10, 2, 40},
		{1000, 0, 600},
		{1000, 250, 1100},
		{10000, 0, 2400},
	} {
		d := NewDigester(BucketCount(tt.objects))
		for i := range tt.objects - tt.tokens {
			d.Add(fmt.Sprintf("configmaps/default/config-%05d", i), "5fbe2a0c-8f13-4a37-b8e0-2c9f5b0f7d11/123456")
		}
		for i := range tt.tokens {
			d.Add(fmt.Sprintf("tokens/default/web-%05d/0123456789abcdef", i), fmt.Sprintf("5fbe2a0c-8f13-4a37-b8e0-2c9f5b0f7d11/%d", 1_700_000_000+i*300))
		}
		if got := len(Append(nil, d.Digest())); got > tt.max {
			t.Errorf("%d objects, %d tokens: %d bytes, want at most %d", tt.objects, tt.tokens, got, tt.max)
		} else {
			t.Logf("%d objects, %d tokens: %d bytes", tt.objects, tt.tokens, got)
		}
	}
}

func TestDigestIsBounded(t *testing.T) {
	for _, f := range []Frame{
		&Digest{Buckets: make([]Bucket, MaxBuckets+1)},
		&Digest{Buckets: []Bucket{{Expiries: make([]uint64, maxExpiries)}, {Expiries: make([]uint64, 1)}}},
		&Want{Buckets: make([]uint64, MaxBuckets+1)},
	} {
		if _, err := reader(Append(nil, f)).Next(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T beyond its bound: got %v, want ErrMalformed", f, err)
		}
	}
	huge := quicvarint.Append([]byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, 1<<61)
	b := append([]byte{byte(typeDigest), byte(len(huge))}, huge...)
	if _, err := reader(b).Next(); !errors.Is(err, ErrMalformed) {
		t.Errorf("a count of 2^61: got %v, want ErrMalformed", err)
	}
}

// FuzzDigest has an edge say anything.
func FuzzDigest(f *testing.F) {
	f.Add("pods/d/p", "u/1", 3)
	f.Add("tokens/d/p/1", "u/6119", 1)
	f.Add("tokens/", "/18446744073709551615", 256)
	f.Fuzz(func(t *testing.T, key, version string, n int) {
		if n < 1 || n > MaxBuckets {
			t.Skip()
		}
		d := NewDigester(n)
		i := d.Add(key, version)
		got := d.Digest()
		back, err := reader(Append(nil, got)).Next()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Frame(got), back); diff != "" {
			t.Fatal(diff)
		}
		if want := []uint64{uint64(i)}; !cmp.Equal(got.Differ(NewDigester(n).Digest()), want) {
			t.Fatalf("differs from nothing in %v, want %v", got.Differ(NewDigester(n).Digest()), want)
		}
	})
}
