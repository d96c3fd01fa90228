package tunnel

import "github.com/skerry-io/skerry/tunnel/wire"

// talk tells the peer about streams, the newest state of each.
func (s *Session) talk(c *carrier) {
	var buf []byte
	warned := false
	for {
		select {
		case <-s.ring:
		case <-c.gone:
			s.mu.Lock()
			s.ringLocked() // what it was rung for is the next carrier's
			s.mu.Unlock()
			return
		}
		if buf = buf[:0]; !warned {
			s.mu.Lock()
			buf = s.goAwayLocked(buf)
			s.mu.Unlock()
			warned = len(buf) > 0
		}
		var finished []*Stream
		if buf, finished = s.compose(c, buf); len(buf) > 0 {
			s.wrote()
			if _, err := c.control.Write(buf); err != nil {
				c.fail(err)
				<-c.gone
				continue
			}
		}
		s.finish(c, finished)
		if cap(buf) > 4<<10 {
			buf = nil
		}
	}
}

// finish forgets the streams of which the last was said on c. If c was given up since
// then it may not have been heard, and the next carrier says it again.
func (s *Session) finish(c *carrier, finished []*Stream) {
	s.talking.Lock()
	defer s.talking.Unlock()
	if closed(c.gone) {
		return
	}
	for _, st := range finished {
		s.forget(st)
	}
}

// compose appends all that the peer must hear, and gives the streams with which this
// side has finished once that has been said. Of a carrier that was given up nothing
// is asked: it would not be heard, and the next one would have nothing to say.
func (s *Session) compose(c *carrier, b []byte) (out []byte, finished []*Stream) {
	s.talking.Lock()
	defer s.talking.Unlock()
	if closed(c.gone) {
		return b, nil
	}
	s.mu.Lock()
	news, replies := s.news, s.replies
	s.news, s.replies = make(map[*Stream]struct{}), nil
	s.mu.Unlock()
	for i := range replies {
		b = wire.Append(b, &replies[i])
	}
	for st := range news {
		var last bool
		if b, last = st.news(b); last {
			finished = append(finished, st)
		}
	}
	return b, finished
}
