// Package survey is what an edge answers people who look at devices through the
// tunnel: which OPC UA servers and endpoints there are, what a server's address space
// holds, who a Modbus device says it is, and values as they are now. The edge writes
// these types as JSON below /devices/ of its kubelet API, which only nodes/NAME/proxy
// reaches; `skerry device` reads them.
//
//	POST /devices/discover?url=URL                 -> Discovery
//	POST /devices/browse?url=URL     BrowseRequest -> Line, one JSON object a line
//	POST /devices/identify           IdentifyRequest -> Identification
//	GET  /devices/live/NAMESPACE/NAME/read?property=A&property=B  -> Values
//	POST /devices/live/NAMESPACE/NAME/write  WriteRequest -> Written
//	POST /devices/live/NAMESPACE/NAME/call   CallRequest  -> Called
//
// An answer that is none has a status of its own and a text for people. Bodies are at
// most MaxBody bytes.
package survey
