package cri

import (
	"maps"
	"slices"
	"strings"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func namespaceOption(n Namespaces) *runtimev1.NamespaceOption {
	out := &runtimev1.NamespaceOption{
		Network:  namespaceMode(n.Network),
		Pid:      namespaceMode(n.PID),
		Ipc:      namespaceMode(n.IPC),
		TargetId: n.TargetID,
	}
	if n.Users != nil {
		out.UsernsOptions = &runtimev1.UserNamespace{
			Mode: runtimev1.NamespaceMode_POD, Uids: idMappings(n.Users), Gids: idMappings(n.Users),
		}
	}
	return out
}

// idMappings is the one line that runtimes take; none for the machine's users.
func idMappings(u *Users) []*runtimev1.IDMapping {
	if u == nil {
		return nil
	}
	return []*runtimev1.IDMapping{{HostId: u.First, Length: u.Count}}
}

func namespaceMode(m NamespaceMode) runtimev1.NamespaceMode {
	switch m {
	case NamespaceContainer:
		return runtimev1.NamespaceMode_CONTAINER
	case NamespaceNode:
		return runtimev1.NamespaceMode_NODE
	case NamespaceTarget:
		return runtimev1.NamespaceMode_TARGET
	default:
		return runtimev1.NamespaceMode_POD
	}
}

// The runtime's names of signals are those of the API, but for a prefix and the
// signs of real-time ones: SIGRTMIN+1 is SIGNAL_SIGRTMINPLUS1.
const signalPrefix = "SIGNAL_"

func signal(name string) runtimev1.Signal {
	return runtimev1.Signal(runtimev1.Signal_value[signalPrefix+strings.NewReplacer("+", "PLUS", "-", "MINUS").Replace(name)])
}

func signalName(s runtimev1.Signal) string {
	if s == runtimev1.Signal_SIGNAL_RUNTIME_DEFAULT {
		return ""
	}
	return strings.NewReplacer("PLUS", "+", "MINUS", "-").Replace(strings.TrimPrefix(s.String(), signalPrefix))
}

func protocol(p Protocol) runtimev1.Protocol {
	switch p {
	case UDP:
		return runtimev1.Protocol_UDP
	case SCTP:
		return runtimev1.Protocol_SCTP
	default:
		return runtimev1.Protocol_TCP
	}
}

func profile(p *Profile) *runtimev1.SecurityProfile {
	if p == nil {
		return nil
	}
	out := &runtimev1.SecurityProfile{LocalhostRef: p.Localhost}
	switch p.Type {
	case ProfileUnconfined:
		out.ProfileType = runtimev1.SecurityProfile_Unconfined
	case ProfileLocalhost:
		out.ProfileType = runtimev1.SecurityProfile_Localhost
	default:
		out.ProfileType = runtimev1.SecurityProfile_RuntimeDefault
	}
	return out
}

func int64Value(v *int64) *runtimev1.Int64Value {
	if v == nil {
		return nil
	}
	return &runtimev1.Int64Value{Value: *v}
}

func linuxResources(r *Resources) *runtimev1.LinuxContainerResources {
	out := &runtimev1.LinuxContainerResources{
		CpuPeriod:          r.CPUPeriod,
		CpuQuota:           r.CPUQuota,
		CpuShares:          r.CPUShares,
		MemoryLimitInBytes: r.MemoryLimit,
		OomScoreAdj:        r.OOMScoreAdj,
		Unified:            r.Unified,
	}
	for _, size := range slices.Sorted(maps.Keys(r.HugePages)) {
		out.HugepageLimits = append(out.HugepageLimits, &runtimev1.HugepageLimit{PageSize: size, Limit: r.HugePages[size]})
	}
	return out
}

func securityContext(s *Security) *runtimev1.LinuxContainerSecurityContext {
	out := &runtimev1.LinuxContainerSecurityContext{
		Privileged:         s.Privileged,
		NamespaceOptions:   namespaceOption(s.Namespaces),
		RunAsUser:          int64Value(s.RunAsUser),
		RunAsGroup:         int64Value(s.RunAsGroup),
		RunAsUsername:      s.RunAsUsername,
		SupplementalGroups: s.SupplementalGroups,
		ReadonlyRootfs:     s.ReadOnlyRootfs,
		NoNewPrivs:         s.NoNewPrivs,
		MaskedPaths:        s.MaskedPaths,
		ReadonlyPaths:      s.ReadOnlyPaths,
		Seccomp:            profile(s.Seccomp),
		Apparmor:           profile(s.AppArmor),
	}
	if s.StrictSupplementalGroups {
		out.SupplementalGroupsPolicy = runtimev1.SupplementalGroupsPolicy_Strict
	}
	if len(s.AddCapabilities)+len(s.DropCapabilities) > 0 {
		out.Capabilities = &runtimev1.Capability{AddCapabilities: s.AddCapabilities, DropCapabilities: s.DropCapabilities}
	}
	if s.SELinuxUser != "" || s.SELinuxRole != "" || s.SELinuxType != "" || s.SELinuxLevel != "" {
		out.SelinuxOptions = &runtimev1.SELinuxOption{
			User: s.SELinuxUser, Role: s.SELinuxRole, Type: s.SELinuxType, Level: s.SELinuxLevel,
		}
	}
	return out
}

func mounts(in []Mount, users *Users) []*runtimev1.Mount {
	out := make([]*runtimev1.Mount, 0, len(in))
	for _, m := range in {
		pm := &runtimev1.Mount{
			ContainerPath: m.ContainerPath, HostPath: m.HostPath,
			Readonly: m.ReadOnly, RecursiveReadOnly: m.RecursiveReadOnly,
			UidMappings: idMappings(users), GidMappings: idMappings(users),
		}
		if m.UserImage != "" {
			pm.Image = &runtimev1.ImageSpec{Image: m.Image, UserSpecifiedImage: m.UserImage}
			pm.ImageSubPath = m.ImageSubPath
		}
		switch m.Propagation {
		case PropagationHostToContainer:
			pm.Propagation = runtimev1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		case PropagationBidirectional:
			pm.Propagation = runtimev1.MountPropagation_PROPAGATION_BIDIRECTIONAL
		default:
			pm.Propagation = runtimev1.MountPropagation_PROPAGATION_PRIVATE
		}
		out = append(out, pm)
	}
	return out
}

func containerState(s runtimev1.ContainerState) ContainerState {
	switch s {
	case runtimev1.ContainerState_CONTAINER_CREATED:
		return StateCreated
	case runtimev1.ContainerState_CONTAINER_RUNNING:
		return StateRunning
	case runtimev1.ContainerState_CONTAINER_EXITED:
		return StateExited
	default:
		return StateUnknown
	}
}
