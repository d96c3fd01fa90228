package cloudproxy

import (
	"context"
	"net"

	"github.com/skerry-io/skerry/cloudproxy/admin"
	"github.com/skerry-io/skerry/cloudproxy/desired"
	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/cloudproxy/standing"
	"github.com/skerry-io/skerry/cloudproxy/status"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// parts are what Run has to run.
type parts struct {
	front *kubeletfront.Server
	nodes *report.Nodes
	run   []func(context.Context) error // all but front and the enrolment's server
}

// parts builds what needs the registry.
func (s *Server) parts(reg *registry.Registry, socks *listeners) (*parts, error) {
	door, err := s.newDoor()
	if err != nil {
		return nil, err
	}
	var r reporters // made below: its Nodes show what is known of certificates
	stand, err := standing.New(standing.Config{
		Edges: certified{reg}, CAs: s.enroll, Noted: func(node string) { r.nodes.Refresh(node) }, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	s.enroll.OnRenewed(stand.Renewed)
	r, err = s.reporters(reg, door, stand)
	if err != nil {
		return nil, err
	}
	for kind, serve := range map[wire.Kind]registry.Handler{wire.KindDesired: s.desired.Serve, wire.KindReport: r.receiver.Serve} {
		reg.Handle(kind, func(ctx context.Context, node string, c net.Conn) error {
			if err := r.nodes.Check(ctx, node); err != nil {
				return err
			}
			return serve(ctx, node, c)
		})
	}
	reg.Handle(wire.KindRenewal, s.enroll.ServeRenewal)
	conditions, err := desired.NewConditions(desired.Config{Client: s.cfg.Client, Dynamic: s.cfg.Dynamic, Log: s.log}, s.desired)
	if err != nil {
		return nil, err
	}
	front, err := kubeletfront.New(kubeletfront.Config{
		Listener:    socks.kubelet,
		Certificate: door.serving.GetCertificate,
		Client:      s.cfg.Client,
		Pods:        s.desired,
		Edges:       reg,
		Addr:        s.cfg.KubeletListen,
		Ports:       door.ports,
		Status:      func(node string) status.Session { return edgeStatus(reg, s.desired, node) },
		Log:         s.log,
		Registerer:  s.metrics,
	})
	if err != nil {
		return nil, err
	}
	adm, err := admin.New(admin.Config{
		Listener: socks.admin,
		Gatherer: s.metrics,
		Ready:    s.ready,
		Edges:    func() []status.Session { return connectedEdges(reg, s.desired) },
		Log:      s.log,
	})
	if err != nil {
		return nil, err
	}
	return &parts{front: front, nodes: r.nodes, run: append(door.run,
		s.enroll.Run,
		stand.Run,
		s.desired.Run,
		conditions.Run,
		reg.Run,
		r.nodes.Run,
		r.tolerations.Run,
		adm.Run,
		socks.split.run,
	)}, nil
}

// sampleSink gives the receiver of samples, or a nil interface.
func (s *Server) sampleSink() report.SampleSink { //nolint:ireturn // or none
	if s.samples == nil {
		return nil
	}
	return s.samples
}

// reporters write what edges say into the API.
type reporters struct {
	nodes       *report.Nodes
	receiver    *report.Receiver
	tolerations *report.Tolerations
}

func (s *Server) reporters(reg *registry.Registry, door *door, stand *standing.Keeper) (reporters, error) {
	var rep *report.Receiver // made below: it and the Nodes ask one another
	nodes, err := report.NewNodes(report.NodesConfig{
		Client:      s.cfg.Client,
		Sessions:    sessions{reg},
		Addresses:   s.nodeAddresses,
		Features:    s.nodeFeatures,
		KubeletPort: int32(s.addr.node.Port()),
		Port:        door.port,
		MetricsPath: kubeletfront.MetricsPath,
		Condition:   door.serving.Condition,
		Annotations: func(node string) map[string]string { return certificateNote(stand, node) },
		Ask:         func(node string) { rep.AskNode(node) },
		Log:         s.log,
	})
	if err != nil {
		return reporters{}, err
	}
	rep, err = report.New(report.Config{
		Client: s.cfg.Client, Dynamic: s.cfg.Dynamic, Pod: s.cachedPod, PodsOf: s.desired.PodsOf, Requests: s.desired.CertificateRequests,
		Device: s.desired.Device, Samples: s.sampleSink(), NodeWanted: nodes.Wanted, Registerer: s.metrics, Log: s.log,
	})
	if err != nil {
		return reporters{}, err
	}
	if err := s.desired.OnMirror(rep.MirrorChanged); err != nil {
		return reporters{}, err
	}
	tolerations, err := report.NewTolerations(report.TolerationsConfig{
		Client: s.cfg.Client, Pods: s.desired, Nodes: nodes, DefaultSeconds: s.cfg.TolerationSeconds, Log: s.log,
	})
	if err != nil {
		return reporters{}, err
	}
	return reporters{nodes, rep, tolerations}, nil
}
