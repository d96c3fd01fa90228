package stats

import "context"

// PodUse is what one pod uses, for who has to choose among pods.
type PodUse struct {
	UID string
	// Memory is the working set in bytes.
	Memory, Processes int64
	Containers        []ContainerUse
}

// ContainerUse is what one container uses.
type ContainerUse struct {
	Name         string
	Memory       int64
	Rootfs, Logs DiskUse
}

// DiskUse is what something takes on a disk.
type DiskUse struct{ Bytes, Inodes int64 }

// PodUses measures the pods that run.
func (c *Collector) PodUses(ctx context.Context) ([]PodUse, error) {
	s, _, err := c.measure(ctx)
	if err != nil {
		return nil, err
	}
	if s.err != nil {
		return nil, s.err
	}
	out := make([]PodUse, 0, len(s.podAt))
	for i := range s.podAt {
		p := &s.podAt[i]
		u := PodUse{UID: p.uid, Memory: working(&p.group), Processes: plain(p.group.threads)}
		sum := int64(0)
		for j := range p.containers {
			ct := &p.containers[j]
			cu := ContainerUse{Name: ct.name, Memory: working(&ct.group)}
			sum += cu.Memory
			if ct.layer != nil {
				cu.Rootfs = DiskUse{plain(&ct.layer.UsedBytes), plain(&ct.layer.InodesUsed)}
			}
			if used, inodes, ok := c.logUse(p, ct.name); ok {
				cu.Logs = DiskUse{plain(&used), plain(&inodes)}
			}
			u.Containers = append(u.Containers, cu)
		}
		if p.dir == "" {
			u.Memory = sum // without a group of its own
		}
		out = append(out, u)
	}
	return out, nil
}

func working(g *group) int64 {
	if g.memory.workingSet != nil {
		return plain(g.memory.workingSet)
	}
	return plain(g.memory.usage)
}

func plain(n *uint64) int64 {
	if n == nil {
		return 0
	}
	return int64(*n)
}
