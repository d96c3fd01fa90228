package results

// tunnelText is the part of the bench of the tunnel.
func tunnelText() benchText {
	return benchText{
		name: "tunnel",
		what: "Package tunnel beside what one would use instead, all at the same time, each on a link of its own that loses packets by its " +
			"own chance, with mutual TLS 1.3 by the same kind of certificates: `quic-stock`, one connection of quic-go with a plain UDP socket and its defaults " +
			"(and a keepalive of 15 s); `yamux-cubic`, TLS over TCP with yamux' defaults; `websocket`, one WebSocket over TLS with the pings and " +
			"redials of KubeEdge's stream tunnel; both with TCP's congestion control cubic. Whatever dies is dialed again: all with the pauses of the product's uplink " +
			"(0.2 s, doubling to 2 s), KubeEdge's every 2 s. Where something that was waited for did not come, the time that " +
			"was waited is counted, so the true figure is higher: 90 s after an outage, 60 s after a changed address (30 s and 20 s with -quick), 30 s for a connection. Rows that are missing: NAT rebinding is done to UDP only, " +
			"and a system that needs UDP has no data where UDP is blocked.",
		metrics: []metricText{
			{"outage_resume_s", "from the return of the link until a message is answered that was sent 0.5 s after the link had gone; outages of 10, 30 and 60 s if the command says nothing else"},
			{"ipchange_stall_ms", "the longest time without an answer to messages sent every 20 ms when the edge's address changes and it has none for 50 ms: the worse of an idle session, whose user begins to type 1 s later, and one with somebody who types all the time"},
			{"ipchange_stall_idle_ms", "the first of these"},
			{"ipchange_stall_typing_ms", "the second of these"},
			{"ipchange_stall_bulk_ms", "the same with bulk to the cloud all the time"},
			{"ipchange_steady_gap_ms", "the longest time without an answer in the 4 s before: what the link's loss does alone"},
			{"ipchange_session_lost_pct", "share of the changes after which the session had to be dialed anew, or nothing came any more"},
			{"nat_stall_ms", "as ipchange_stall_ms, when the NAT before the edge gives it another port and drops what comes to the old one"},
			{"nat_stall_idle_ms", "as ipchange_stall_idle_ms"},
			{"nat_stall_typing_ms", "as ipchange_stall_typing_ms"},
			{"nat_stall_bulk_ms", "as ipchange_stall_bulk_ms"},
			{"nat_steady_gap_ms", "as ipchange_steady_gap_ms"},
			{"nat_session_lost_pct", "as ipchange_session_lost_pct"},
			{"udpblock_start_s", "from nothing to the answer to a 64-byte message, where UDP packets are dropped"},
			{"udpblock_mid_s", "from the moment from which UDP packets are dropped until a message is answered that was sent after it; one is sent every 100 ms"},
			{"ttfb_new_ms", "from nothing to the answer to a 64-byte message: handshake and first stream; failures are dialed again"},
			{"ttfb_resumed_ms", "the same with what the connection before has left: session tickets, 0-RTT where the system has it"},
			{"echo_p50_ms", "median of the time to the answer to a 64-byte message, sent every 100 ms for 30 s; a value is one run"},
			{"echo_p99_ms", "99th percentile of the same"},
			{"bulk_up_share", "what arrives from edge to cloud in 22 s (6 s over A, 10 s with -quick) with the start, of what the link carries; noise, so that nothing can be compressed"},
			{"bulk_down_share", "the same from cloud to edge"},
			{"echo_bulk_p50_ms", "as echo_p50_ms during the bulk to the cloud, in the same session"},
			{"echo_bulk_p99_ms", "99th percentile of the same"},
			{"idle_kb_server", "resident memory of the server after a garbage collection for each of 2,000 idle sessions (1 KB is 1,000 bytes), over loopback; the kernel's sockets are not in it"},
			{"idle_kb_client", "the same of a process with the 2,000 clients"},
			{"handshakes_per_s", "these sessions made in a second, 32 at a time, each with one echo; both ends on the machine's cores"},
		},
	}
}

func tunnelBudgets() []budget {
	of := func(link, metric string, limit float64, what string) budget {
		return budget{bench: "tunnel", link: link, system: "skerry", metric: metric, limit: limit, what: what}
	}
	least := func(b budget) budget { b.least = true; return b }
	worst := func(b budget) budget { b.worst = true; return b }
	return []budget{
		of("D", "echo_bulk_p99_ms", 600, "echo while a log floods the same edge, 99th percentile, D"),
		least(of("B", "bulk_up_share", 85, "bulk over B, share of the link")),
		least(of("C", "bulk_up_share", 65, "bulk over C")),
		least(of("D", "bulk_up_share", 75, "bulk over D")),
		least(of("E", "bulk_up_share", 70, "bulk over E")),
		of("B", "outage_resume_s", 1, "data after an outage, B"),
		worst(of("B", "outage_resume_s", 2.5, "data after an outage, B, the slowest")),
		of("D", "outage_resume_s", 1, "data after an outage, D"),
		worst(of("D", "outage_resume_s", 2.5, "data after an outage, D, the slowest")),
		of("B", "ipchange_stall_ms", 300, "changed address, 60 ms link"),
		worst(of("B", "ipchange_session_lost_pct", 0, "changed address: sessions lost")),
		of("B", "udpblock_start_s", 0.54, "UDP blocked: data over TCP after 0.3 s + 4 RTT, B"),
		of("D", "udpblock_start_s", 1.5, "UDP blocked: data over TCP after 0.3 s + 4 RTT, D"),
	}
}

func tunnelPlots() []plotSpec {
	return []plotSpec{
		{
			file: "tunnel-bulk.svg", bench: "tunnel", axis: "share of the link", unit: "%",
			title: "Bulk from edge to cloud", metrics: []series{{"bulk_up_share", "bulk"}},
		},
		{
			file: "tunnel-echo.svg", bench: "tunnel", axis: "time", unit: "ms",
			title: "Echo while bulk fills the link, 99th percentile", metrics: []series{{"echo_bulk_p99_ms", "echo"}},
		},
		{
			file: "tunnel-outage.svg", bench: "tunnel", axis: "time", unit: "s",
			title: "From the return of the link to data", metrics: []series{{"outage_resume_s", "data"}},
		},
		{
			file: "tunnel-ttfb.svg", bench: "tunnel", axis: "time", unit: "ms",
			title: "From nothing to the first answer, with what the last connection left", metrics: []series{{"ttfb_resumed_ms", "answer"}},
		},
	}
}
