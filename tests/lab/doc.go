// Package lab is the environment that the demo and the end-to-end tests share:
// a dev cluster, the cloud proxy, and edges, each in a network namespace of its
// own behind an emulated link, with its own containerd and agent.
//
//	root namespace                                 namespace skerry-NAME-EDGE
//	  devcluster  127.0.0.1:PORTS                    edgeagent
//	  cloudproxy  10.201.NET.1 (device skNAME)       containerd -> pods on bridge cni0
//	  skNAMEn 10.201.NET+n.1/24 --- linkemu --- uplink 10.201.NET+n.2/24, default route
//
// Everything that is started lives under Config.Dir and carries on when the
// process that started it ends. Whoever opens a lab with the same Config finds
// it as it is: each Start does only what is missing, and Down takes away
// whatever is there, of a half-started lab too. Processes are known by a pid
// file with their start time and by an environment variable that names Dir, so
// that no other process is ever signalled.
package lab
