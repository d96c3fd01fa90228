package tunnel

import (
	"fmt"
	"strings"
)

// Left describes the streams that are not forgotten, for a test that wants none.
func (s *Session) Left() string {
	var b strings.Builder
	for _, st := range s.living() {
		st.mu.Lock()
		d, r := &st.send, &st.recv
		fmt.Fprintf(&b, " [%d peer %t known %t opened %t closed %t pumping %t again %t; send done %t aborted %t told %t fin %t/%t base %d next %d buf %d limit %d; recv done %t told %t ended %t received %d]",
			st.id, st.peer, st.known, st.opened, st.closed, st.pumping, st.again, d.done, d.aborted, d.told, d.fin, d.finSent, d.base, d.next, len(d.buf), d.limit,
			r.done, r.told, r.ended, r.received)
		st.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&b, " news %d replies %d saying %t attached %t", len(s.news), len(s.replies), s.saying, s.state.ok)
	return b.String()
}
