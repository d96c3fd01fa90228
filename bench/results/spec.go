package results

import "time"

// Link is a profile of the link emulator.
type Link struct {
	Name, Text string
	RTT        time.Duration
	Mbit       float64 // its rate each way, in 10⁶ bits a second
}

// Links are the links of the budgets.
func Links() []Link {
	return []Link{
		{"A", "LAN: 0.5 ms, 1 Gbit/s", 500 * time.Microsecond, 1000},
		{"B", "4G: 60 ms, 20 Mbit/s, 1 % loss", 60 * time.Millisecond, 20},
		{"C", "satellite: 600 ms, 10 Mbit/s, 1 % loss", 600 * time.Millisecond, 10},
		{"D", "bad: 300 ms, 5 Mbit/s, 5 % loss", 300 * time.Millisecond, 5},
		{"E", "terrible: 400 ms, 2 Mbit/s, 10 % loss in bursts", 400 * time.Millisecond, 2},
	}
}

// benchText says what a bench does, and its metrics what they count.
type benchText struct {
	name, what string
	metrics    []metricText
}

type metricText struct{ name, what string }

// benches are in the order of the report. A bench that is not among them is
// reported after these, without words.
func benches() []benchText {
	return []benchText{
		{
			name: "kubelet",
			what: "The real `kubectl` against a real kube-apiserver, the proxy, and one edge behind each link in turn: each round visits " +
				"every link once, in another order each time, and runs one command there unmeasured before the measured ones. Times are " +
				"those of whole processes, so the floor is in each of them: what a `kubectl` takes that crosses no link.",
			metrics: []metricText{
				{"floor_ms", "`kubectl get --raw /livez`: from start to exit"},
				{"exec_true_ms", "`kubectl exec POD -- true`: from start to exit"},
				{"exec_above_clean_rtt", "exec_true_ms less that over link A in the same round, in round trips of the link"},
				{"log_first_line_ms", "`kubectl logs POD --tail=1`: from start to the end of the line"},
				{"logs_100_lines_ms", "`kubectl logs POD`, 100 lines of 80 bytes: from start to exit"},
				{"failed_pct", "share of the measured commands that failed or gave something else than asked; they are in no other figure"},
				{"vmrss_mb", "VmRSS of the process: resident memory, with the pages of its program"},
				{"rssanon_mb", "RssAnon of the process: memory that no file backs"},
			},
		},
		tunnelText(),
		{
			name: "pods",
			what: "The agent with ten pods of busybox on its edge, over link A, at rest after the bench kubelet.",
			metrics: []metricText{
				{"vmrss_mb", "VmRSS of the process: resident memory, with the pages of its program"},
				{"rssanon_mb", "RssAnon of the process: memory that no file backs"},
				{"pods", "pods that run on the edge"},
			},
		},
		{
			name:    "binaries",
			what:    "The programs as `make build` makes them: static and stripped.",
			metrics: []metricText{{"size_mb", "size of the file"}},
		},
	}
}

// budget is what a figure must not be above, or below.
type budget struct {
	bench, link, system, metric string
	limit                       float64
	what                        string
	least                       bool // limit is what there must be at least
	worst                       bool // all values must be within, not the median
}

func budgets() []budget {
	all := []budget{
		{bench: "kubelet", link: "D", system: "skerry", metric: "exec_above_clean_rtt", limit: 1.3, what: "`kubectl exec POD -- true` over D, above its time on a clean link"},
		{bench: "pods", link: NoLink, system: "skerry", metric: "rssanon_mb", limit: 15, what: "agent with 10 pods, anonymous memory"},
		{bench: "pods", link: NoLink, system: "skerry", metric: "vmrss_mb", limit: 45, what: "agent with 10 pods, resident memory"},
	}
	return append(all, tunnelBudgets()...)
}

// holds reports whether a row is within the budget.
func (b budget) holds(r Row) bool {
	low, high := r.Median, r.Median
	if b.worst {
		low, high = r.Min, r.Max
	}
	if b.least {
		return low >= b.limit
	}
	return high <= b.limit
}

// sign writes which side of the limit is right.
func (b budget) sign() string {
	if b.least {
		return "≥"
	}
	return "≤"
}

// plotSpec says which rows a plot shows: one group of bars for each link, one
// bar in it for each system and metric.
type plotSpec struct {
	file, bench, title string
	axis, unit         string
	metrics            []series
	floor              series // drawn as a line; zero is none
}

// series is a metric and what the legend calls it.
type series struct{ metric, name string }

func plots() []plotSpec {
	return append([]plotSpec{{
		file: "kubelet.svg", bench: "kubelet", axis: "time", unit: "ms",
		title: "kubectl to a pod behind a bad link",
		metrics: []series{
			{"exec_true_ms", "exec POD -- true"},
			{"log_first_line_ms", "logs --tail=1, first line"},
			{"logs_100_lines_ms", "logs, 100 lines"},
		},
		floor: series{"floor_ms", "kubectl alone (get --raw /livez)"},
	}}, tunnelPlots()...)
}
