package tunnel

import "github.com/skerry-io/skerry/tunnel/wire"

// sayLocked has the peer hear what is new. There is a goroutine for it only while
// there is something to say.
func (s *Session) sayLocked() {
	c := s.current.Load()
	if s.saying || s.ending || c == nil || !s.newsLocked(c) {
		return
	}
	s.saying = true
	s.wg.Go(s.talk)
}

// newsLocked reports whether the peer must hear something by c.
func (s *Session) newsLocked(c *carrier) bool {
	return len(s.news) > 0 || len(s.replies) > 0 || s.mustWarnLocked(c)
}

// talk tells the peer about streams, the newest state of each, until there is
// nothing more to say or no carrier.
func (s *Session) talk() {
	buf := s.frames.get()
	defer s.frames.put(buf)
	for {
		s.mu.Lock()
		c := s.current.Load()
		s.saying = c != nil && s.newsLocked(c)
		more := s.saying
		s.mu.Unlock()
		if !more {
			return
		}
		b, finished := s.compose(c, (*buf)[:0])
		*buf = b
		if len(b) > 0 {
			s.wrote()
			if _, err := c.control.Write(b); err != nil {
				c.fail(err)
				<-c.gone
				continue
			}
		}
		s.finish(c, finished)
	}
}

// tellLocked has the peer hear of the stream, also when it was forgotten just now.
func (st *Stream) tellLocked() {
	if st.left {
		st.s.reply(st.id)
		return
	}
	st.s.tell(st)
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
	if s.mustWarnLocked(c) {
		b = s.goAwayLocked(b)
		c.warned = true
	}
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
