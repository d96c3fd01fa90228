package results

// syncText is the part of the bench of desired state.
func syncText() benchText {
	return benchText{
		name: "sync",
		what: "The path of desired state, from a real kube-apiserver with etcd by the real proxy to packages desired and store of the edge, on a real disk, over an " +
			"emulated link. `websocket` is the way of KubeEdge, written for this benchmark, beside it in the same run and on links of its own: the same " +
			"informers, objects as JSON in KubeEdge's envelope, one WebSocket over TLS 1.3 over TCP with cubic, one message under way for each edge, a file and an " +
			"fsync for each message before its acknowledgement, and on connecting the list of all objects in one message for each kind, of which the edge writes what differs. " +
			"What KubeEdge does besides would make it slower and is left out: two to three calls of the API after each " +
			"acknowledgement, SQLite, a wait of 30 s before it dials again. KubeEdge avoids the list by an object in etcd for each object and edge; that is left out, too. " +
			"Its idle edge sends a heartbeat each 15 s and a lease each 10 s, which is answered, and no status. " +
			"Objects are pods of two containers and ConfigMaps with ten settings, nine for each pod.",
		metrics: []metricText{
			{"push_p50_ms", "from the moment at which a write is sent to kube-apiserver until the change is on the edge's disk, synced: median; one change each 0.8 s, three of a ConfigMap and then one of a pod; edges on all links hear of the same writes; a value is one round of 40 changes (15 with -quick)"},
			{"push_p99_ms", "99th percentile of the same; what did not come within a minute counts with the time that was waited"},
			{"push_burst_s", "50 ConfigMaps changed at once: from the first write until the last one is on the edge's disk; not with -quick"},
			{"push_change_bytes", "bytes on the edge's interface, both ways, for each of the changes of push_p50_ms"},
			{"push_configmap_bytes", "the same when only ConfigMaps change, one each 100 ms"},
			{"push_pod_bytes", "the same when only pods change, by one annotation each"},
			{"api_write_ms", "what the write itself takes, which is in the times above: median of a round"},
			{"reconnect_bytes", "bytes on the edge's interface, both ways, of a new session with the tickets of the last one, until 1 s after all is in step again; 1,000 objects, none of which has changed"},
			{"reconnect_ms", "from the beginning of the dial until all is in step, with these objects"},
			{"reconnect_0_bytes", "as reconnect_bytes with no object: what the session costs"},
			{"reconnect_0_ms", "as reconnect_ms with no object"},
			{"reconnect_10_bytes", "as reconnect_bytes with 10 objects"},
			{"reconnect_10_ms", "as reconnect_ms with 10 objects"},
			{"reconnect_100_bytes", "as reconnect_bytes with 100 objects"},
			{"reconnect_100_ms", "as reconnect_ms with 100 objects"},
			{"reconnect_5000_bytes", "as reconnect_bytes with 5,000 objects"},
			{"reconnect_5000_ms", "as reconnect_ms with 5,000 objects"},
			{"reconnect_objects_bytes", "reconnect_bytes less reconnect_0_bytes: what the objects cost"},
			{"idle_bytes_day", "bytes on the interface of an edge with 10 pods on which nothing happens, both ways with all headers and keepalives, measured for idle_measured_s and scaled to a day; for `skerry` with the real agent, a runtime and running pods"},
			{"idle_measured_s", "for how long that was measured, beside the other scenarios"},
			{"write_amplification", "bytes that the kernel sent to the disk for the process (write_bytes of /proc/self/io, without the file system's journal) for each byte of changes as Kubernetes protobuf: of ten changes six statuses of pods, two events, a pod and a ConfigMap, each synced; `websocket` keeps no events, and those are not counted for it"},
		},
	}
}

func syncBudgets() []budget {
	return []budget{
		{bench: "sync", link: "B", system: "skerry", metric: "idle_bytes_day", limit: 1_000_000, what: "idle traffic of an edge with 10 pods, a day"},
		{bench: "sync", link: "B", system: "skerry", metric: "reconnect_objects_bytes", limit: 2000, what: "reconnect with 1,000 unchanged objects, above one without objects"},
	}
}

func syncPlots() []plotSpec {
	return []plotSpec{
		{
			file: "sync-push.svg", bench: "sync", axis: "time", unit: "ms",
			title:   "From a write to the API to the edge's disk",
			metrics: []series{{"push_p50_ms", "median"}, {"push_p99_ms", "99th percentile"}},
			floor:   series{"api_write_ms", "the write to the API alone"},
		},
		{
			file: "sync-burst.svg", bench: "sync", axis: "time", unit: "s",
			title: "50 objects changed at once: until the last is on the edge's disk", metrics: []series{{"push_burst_s", "last one"}},
		},
	}
}
