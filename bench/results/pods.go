package results

import "strconv"

// podsText is the part of the bench of pods.
func podsText() benchText {
	text := benchText{
		name: "pods",
		what: "An edge node beside a node of the real kubelet v1.37.2, in one run and one cluster: each in a network namespace of its own with a containerd of its own, " +
			"at the end of a link A of its own. Pods are one container of a pause program with a volume of a ConfigMap; the scheduler has no part. Names without a number " +
			"are with 10 pods on each node, the others with as many as they say. The kubelet has its default settings, but for those that say where it runs.",
	}
	for _, count := range []int{10, 30, 100} {
		suffix := ""
		if count != 10 {
			suffix = "_" + strconv.Itoa(count)
		}
		text.metrics = append(text.metrics,
			metricText{"create_running_ms" + suffix, "from before the request that creates a pod until a watch shows it Running, with the image on the machine"},
			metricText{"delete_gone_ms" + suffix, "from before the request that deletes a pod until a watch shows it deleted; its program ends at once"},
			metricText{"pod_cpu_ms" + suffix, "CPU time of the agent for one pod that is created, runs, is deleted and gone: the mean of all of them"},
			metricText{"configmap_file_ms" + suffix, "from before the request that changes a ConfigMap until the file of a pod's volume has the new text"},
			metricText{"idle_cpu_pct" + suffix, "CPU time of the agent while nothing happens, in percent of a core: a value is 10 s, counted in hundredths of a second"},
			metricText{"vmrss_mb" + suffix, "VmRSS of the agent: resident memory, with the pages of its program"},
			metricText{"rssanon_mb" + suffix, "RssAnon of the agent: memory that no file backs"},
			metricText{"pss_mb" + suffix, "PSS of the agent: resident memory, shared pages divided by who shares them"},
		)
	}
	text.metrics = append(text.metrics,
		metricText{"agent_start_ms_30", "from the start of an agent whose 30 pods run, until it has reported all of them ready, which the API denied while it was away"},
		metricText{"memcg64_agent_start_ms_30", "the same in a memory cgroup of 64 MiB, to which the pages of the agent's program are charged, too"},
		metricText{"memcg64_create_running_ms_30", "as create_running_ms_30 in that cgroup"},
		metricText{"memcg64_delete_gone_ms_30", "as delete_gone_ms_30 in that cgroup"},
		metricText{"memcg64_vmrss_mb_30", "VmRSS after that"},
		metricText{"memcg64_peak_mb_30", "the most that was ever charged to the cgroup, from before the agent's start until after that"},
	)
	return text
}

func podsBudgets() []budget {
	return []budget{
		{bench: "pods", link: NoLink, system: "skerry", metric: "rssanon_mb", limit: 15, what: "agent with 10 pods, anonymous memory"},
		{bench: "pods", link: NoLink, system: "skerry", metric: "vmrss_mb", limit: 45, what: "agent with 10 pods, resident memory"},
		{bench: "pods", link: NoLink, system: "skerry", metric: "idle_cpu_pct", limit: 0.5, what: "agent with 10 pods, idle CPU"},
		{bench: "pods", link: "A", system: "skerry", metric: "configmap_file_ms", limit: 2000, worst: true, what: "a changed ConfigMap in the pod's file, the slowest"},
		{bench: "pods", link: NoLink, system: "skerry", metric: "memcg64_peak_mb_30", limit: 67.1, what: "agent with 30 pods in a memory cgroup of 64 MiB"},
	}
}

func podsPlots() []plotSpec {
	return []plotSpec{{
		file: "pods.svg", bench: "pods", axis: "time", unit: "ms",
		title: "Pods come and go, with 10, 30 and 100 others",
		metrics: []series{
			{"create_running_ms", "create, 10"},
			{"create_running_ms_30", "create, 30"},
			{"create_running_ms_100", "create, 100"},
			{"delete_gone_ms", "delete, 10"},
			{"delete_gone_ms_30", "delete, 30"},
			{"delete_gone_ms_100", "delete, 100"},
		},
	}}
}
