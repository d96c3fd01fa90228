package link

import "crypto/tls"

// tickets is a cache of TLS tickets as carriers need it. Whoever asks gets a copy:
// several dial at once, and quic-go writes into what it gets. What it writes would
// even stay, and no later connection would have early data.
type tickets struct {
	tls.ClientSessionCache

	// kind keeps the tickets of TCP apart from QUIC's, which say more: one of TCP in
	// their place would take the next QUIC connection its early data.
	kind string
}

// withTickets gives a configuration that uses its cache so.
func withTickets(conf *tls.Config, kind string) *tls.Config {
	if conf.ClientSessionCache == nil {
		return conf
	}
	conf = conf.Clone()
	conf.ClientSessionCache = tickets{conf.ClientSessionCache, kind}
	return conf
}

// Get implements tls.ClientSessionCache.
func (c tickets) Get(key string) (*tls.ClientSessionState, bool) {
	s, ok := c.ClientSessionCache.Get(c.kind + " " + key)
	if !ok {
		return nil, false
	}
	ticket, state, err := s.ResumptionState()
	if err != nil || state == nil {
		return nil, false
	}
	b, err := state.Bytes()
	if err != nil {
		return nil, false
	}
	if state, err = tls.ParseSessionState(b); err != nil {
		return nil, false
	}
	if s, err = tls.NewResumptionState(ticket, state); err != nil {
		return nil, false
	}
	return s, true
}

// Put implements tls.ClientSessionCache.
func (c tickets) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(c.kind+" "+key, s)
}
