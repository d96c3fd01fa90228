package tunnel

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"github.com/skerry-io/skerry/tunnel/link"
)

// Way is a way out of an edge's machine.
type Way struct {
	// Name is the device's; only the routing table's own choice has none.
	Name string
	// PacketConn opens a socket.
	PacketConn func() (net.PacketConn, error)
	// DialTCP makes connections over TCP; nil means that there are none this way.
	DialTCP link.Dialer
}

// rank is what a carrier is worth; less is better. The routing table is what the
// operator wants: what it would not take may cost money, so TCP by its choice is
// better than QUIC by another device.
type rank int

const (
	quicByTable rank = iota
	tlsByTable
	quicByDetour
	tlsByDetour
	anyRank // the limit that all are below
)

// by is the rank of a kind of carriers by a way.
func (r rank) by(w Way) rank {
	if w.Name != "" {
		return r + quicByDetour
	}
	return r
}

// detour reports that the way is not the routing table's own.
func (r rank) detour() bool { return r >= quicByDetour }

// deviceDetours are the devices with a default route that the routing table does
// not take to addrs. Where they can't be had, there are none.
func deviceDetours(addrs []net.Addr) []Way {
	devices, err := link.Devices()
	if err != nil || len(devices) < 2 {
		return nil
	}
	var chosen []string
	for _, a := range addrs {
		chosen = append(chosen, link.DeviceTo(a))
	}
	var ways []Way
	for _, device := range devices {
		if !slices.ContainsFunc(chosen, func(c string) bool { return c != device }) {
			continue // the routing table takes no other
		}
		ways = append(ways, Way{
			Name:       device,
			PacketConn: func() (net.PacketConn, error) { return link.ListenUDPOn(device) },
			DialTCP:    link.DeviceDialer(device),
		})
	}
	return ways
}

// sockets are those of one race, by the names of their ways.
type sockets struct {
	log *slog.Logger

	mu   sync.Mutex // guards the following field
	open map[string]*link.Transport
}

// transport gives the way's socket.
func (s *sockets) transport(w Way) (*link.Transport, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.open[w.Name]; t != nil {
		return t, nil
	}
	pc, err := w.PacketConn()
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	t, err := link.NewTransport(link.TransportConfig{PacketConn: pc})
	if err != nil {
		_ = pc.Close() // it was never used
		return nil, err
	}
	s.open[w.Name] = t
	return t, nil
}

// keep closes all but one way's socket, which the function that it gives closes.
func (s *sockets) keep(name string) func() {
	kept := s.open[name]
	delete(s.open, name)
	s.close()
	return func() { s.end(kept) }
}

// close closes all; no attempt runs any more.
func (s *sockets) close() {
	for _, t := range s.open {
		s.end(t)
	}
}

func (s *sockets) end(t *link.Transport) {
	if err := t.Close(); err != nil {
		s.log.Debug("close the carrier's socket", "err", err)
	}
}
