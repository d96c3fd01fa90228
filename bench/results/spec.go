package results

import (
	"slices"
	"time"
)

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
				"those of whole processes, so the floor is in each of them: what a `kubectl` takes that crosses no link. `spdy-passthrough` is another node of " +
				"the same cluster, whose kubelet is at the other end of a session of package tunnel over the same link: HTTP and SPDY of kube-apiserver cross " +
				"the link as bytes and end in the runtime, as with a kubelet behind any other tunnel.",
			metrics: []metricText{
				{"floor_ms", "`kubectl get --raw /livez`: from start to exit"},
				{"exec_true_ms", "`kubectl exec POD -- true`: from start to exit"},
				{"exec_above_clean_rtt", "exec_true_ms less that over link A in the same round, in round trips of the link"},
				{"log_first_line_ms", "`kubectl logs POD --tail=1`: from start to the end of the line"},
				{"logs_100_lines_ms", "`kubectl logs POD`, 100 lines of 80 bytes: from start to exit"},
				{"logs_mb_s", "`kubectl logs POD` of 9 MB of noise in base64: what came in at most 10 s, from the start of the process, in 10⁶ bytes a second"},
				{"logs_text_mb_s", "the same of 10 MB of lines as programs log them"},
				{"portforward_rps", "answers of 64 bytes a second through one `kubectl port-forward`, ten clients for 10 s, a connection for each request"},
				{"exec_100_s", "`true` run 100 times at once by the client of `kubectl`, in one process: until the last one is done"},
				{"failed_load_pct", "share of the runs of the last four that failed; they are in no other figure"},
				{"failed_pct", "share of the measured commands that failed or gave something else than asked; they are in no other figure"},
				{"vmrss_mb", "VmRSS of the process: resident memory, with the pages of its program"},
				{"rssanon_mb", "RssAnon of the process: memory that no file backs"},
			},
		},
		tunnelText(),
		syncText(),
		podsText(),
		{
			name: "conformance",
			what: "Kubernetes' own end-to-end tests that are labelled NodeConformance and Conformance, of the version of the control plane " +
				"(`make conformance`), against an edge whose control plane is at the other end of the link. The kubelet of that version passes all 141 on the same kind of machine.",
			metrics: []metricText{
				{"nodeconformance_passed", "tests that passed, in one run, without repeats"},
				{"nodeconformance_run", "tests that ran"},
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
	}
	return slices.Concat(all, podsBudgets(), tunnelBudgets(), syncBudgets())
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
	kubelet := plotSpec{
		file: "kubelet.svg", bench: "kubelet", axis: "time", unit: "ms",
		title: "kubectl to a pod behind a bad link",
		metrics: []series{
			{"exec_true_ms", "exec POD -- true"},
			{"log_first_line_ms", "logs --tail=1, first line"},
			{"logs_100_lines_ms", "logs, 100 lines"},
		},
		floor: series{"floor_ms", "kubectl alone (get --raw /livez)"},
	}
	return slices.Concat([]plotSpec{kubelet}, podsPlots(), tunnelPlots(), syncPlots())
}
