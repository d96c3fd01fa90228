// Package ports gives each edge a port of the proxy's address, so that a request
// says by its port which node it is for. Node.status carries the port, every
// replica listens on all of them.
//
// Who has which port is in one ConfigMap. A port is given once and kept, also
// while the Node is away. The API server lets one of two replicas that write at
// once win, so that no port is ever two nodes'; a note on each Node could not say
// that. When the range is full, the ports of Nodes that are gone are given again.
package ports
