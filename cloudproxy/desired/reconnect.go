package desired

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// learn fills versions with what the edge holds. Where the edge's digest is that
// of what it should hold, that is known without a word; for the rest the edge is
// asked.
func (s *stream) learn() error {
	defer s.learned()
	f, err := s.r.Next()
	if err != nil {
		return fmt.Errorf("read what the edge holds: %w", err)
	}
	held, ok := f.(*wire.Digest)
	if !ok {
		return fmt.Errorf("%T before the Digest: %w", f, wire.ErrMalformed)
	}
	n := len(held.Buckets)
	if n == 0 {
		return nil
	}
	expected, err := s.expected()
	if err != nil {
		return err
	}
	d := wire.NewDigester(n)
	buckets := make([][]string, n)
	for _, key := range slices.Sorted(maps.Keys(expected)) {
		i := d.Add(key, expected[key])
		buckets[i] = append(buckets[i], key)
	}
	differ := held.Differ(d.Digest())
	for i, keys := range buckets {
		if slices.Contains(differ, uint64(i)) {
			continue
		}
		tokens := 0
		for _, key := range keys {
			version := expected[key]
			if r, _, _, _, _ := wire.SplitKey(key); r == wire.ResourceTokens {
				version = tokenVersion(version, held.Base+held.Buckets[i].Expiries[tokens])
				tokens++
			}
			s.setVersion(key, version)
		}
	}
	s.log.Debug("edge told what it holds", "buckets", n, "differ", len(differ), "expected", len(expected))
	if len(differ) == 0 {
		return nil
	}
	if err := s.write(&wire.Want{Buckets: differ}); err != nil {
		return err
	}
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return s.readHave()
}

// tokenVersion is the version of a token of which the edge told the expiry.
func tokenVersion(expected string, minutes uint64) string {
	return string(versionUID(expected)) + "/" + strconv.FormatUint(minutes*60, 10)
}

// expected gives key and version of all that the edge should hold by the caches.
// Nothing is concluded from a difference but that the edge is to be asked. When a
// token expires only the edge knows.
func (s *stream) expected() (map[string]string, error) {
	expected := make(map[string]string)
	own := wire.ClusterKey(wire.ResourceNodes, s.node)
	if v, ok := s.pub.current(own); ok {
		expected[own] = v.version
	}
	for _, pod := range s.pub.PodsOf(s.node) {
		if !wanted(pod, s.node) {
			continue
		}
		version, err := podVersion(pod)
		if err != nil {
			return nil, err
		}
		expected[wire.ObjectKey(wire.ResourcePods, pod.Namespace, pod.Name)] = version
		keys, tokens := names(pod, s.pub)
		for _, key := range keys {
			if _, ok := tokens[key]; ok {
				expected[key] = string(pod.UID) + "/0"
			} else if _, done := expected[key]; !done {
				if v, ok := s.pub.current(key); ok {
					expected[key] = v.version
				}
			}
		}
	}
	s.expectDevices(expected)
	return expected, nil
}

// expectDevices adds the edge's Devices and what they name.
func (s *stream) expectDevices(expected map[string]string) {
	if !s.pub.known(wire.ResourceDevices) {
		return
	}
	for _, d := range s.pub.devicesOf(s.node) {
		expected[wire.ObjectKey(wire.ResourceDevices, d.Namespace, d.Name)] = d.version()
		for _, key := range d.names {
			if v, ok := s.pub.current(key); ok {
				expected[key] = v.version
			}
		}
	}
}

// readHave adds to versions what the edge was asked for.
func (s *stream) readHave() error {
	count, size := 0, 0
	for {
		f, err := s.r.Next()
		if err != nil {
			return fmt.Errorf("read what the edge holds: %w", err)
		}
		if p, ok := f.(*wire.Progress); ok {
			s.advance(p.Entries) // it need not wait for what is asked here
			continue
		}
		have, ok := f.(*wire.Have)
		if !ok {
			return fmt.Errorf("%T before the last Have: %w", f, wire.ErrMalformed)
		}
		for _, e := range have.Entries {
			s.setVersion(e.Key, e.Version)
			size += len(e.Key) + len(e.Version)
		}
		if count += len(have.Entries); count > maxHave || size > maxHaveBytes {
			return errHave
		}
		if have.Last {
			return nil
		}
	}
}
