package cloudproxy

import (
	"time"

	"github.com/skerry-io/skerry/cloudproxy/desired"
	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/cloudproxy/status"
)

// edgeStatus tells of one edge, connected or not.
func edgeStatus(reg *registry.Registry, down *desired.Publisher, node string) status.Session {
	info, since, ok := reg.Session(node)
	if !ok {
		return status.Session{Node: node, Since: since}
	}
	s := sessionStatus(&info)
	s.Desired = desiredStatus(down, node)
	return s
}

// connectedEdges lists them for operators.
func connectedEdges(reg *registry.Registry, down *desired.Publisher) []status.Session {
	list := []status.Session{} // JSON wants [], not null
	for _, info := range reg.Sessions() {
		s := sessionStatus(&info)
		s.Desired = desiredStatus(down, info.Node)
		list = append(list, s)
	}
	return list
}

func sessionStatus(info *registry.Info) status.Session {
	st := &info.Stats
	s := status.Session{
		Node: info.Node, Connected: st.Attached, Since: st.AttachedSince, SessionSince: st.Since,
		AgentVersion: info.Hello.AgentVersion, Link: st.Link, RTT: float64(st.RTT.Microseconds()) / 1000,
		BytesSent: st.BytesSent, BytesReceived: st.BytesReceived,
		PacketsSent: st.PacketsSent, PacketsReceived: st.PacketsReceived, PacketsLost: st.PacketsLost,
		Streams: st.Streams, Links: st.Links, Resumes: st.Resumes, Migrations: st.Migrations,
		ReplayedBytes: st.ReplayedBytes, DuplicateBytes: st.DuplicateBytes, BufferedBytes: st.Buffered,
		Kinds: make(map[string]status.Kind, len(st.ByKind)),
	}
	if st.RemoteAddr != nil {
		s.Remote = st.RemoteAddr.String()
	}
	for kind, n := range st.ByKind {
		s.Kinds[kind.String()] = status.Kind{Streams: n.Streams, BytesSent: n.Sent, BytesReceived: n.Received}
	}
	return s
}

// desiredStatus is nil when the edge has no desired stream.
func desiredStatus(down *desired.Publisher, node string) *status.Desired {
	st, ok := down.Edge(node)
	if !ok {
		return nil
	}
	behind := func(b desired.Behind) status.Behind {
		return status.Behind{Objects: b.Objects, LagSeconds: b.Lag.Round(100 * time.Millisecond).Seconds()}
	}
	return &status.Desired{
		Synced: st.Synced, Objects: st.Objects, Queued: st.Queued,
		Unstored: behind(st.Unstored), Unapplied: behind(st.Unapplied), Unrunning: behind(st.Unrunning),
	}
}
