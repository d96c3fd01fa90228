package cloudproxy

import (
	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/cloudproxy/status"
)

// edgeStatus tells of one edge, connected or not.
func edgeStatus(reg *registry.Registry, node string) status.Session {
	info, since, ok := reg.Session(node)
	if !ok {
		return status.Session{Node: node, Since: since}
	}
	return sessionStatus(&info)
}

// connectedEdges lists them for operators.
func connectedEdges(reg *registry.Registry) []status.Session {
	list := []status.Session{} // JSON wants [], not null
	for _, info := range reg.Sessions() {
		list = append(list, sessionStatus(&info))
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
