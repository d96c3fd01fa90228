// Package discovery asks OPC UA servers which servers and endpoints there are
// (Part 4, 5.5) and chooses the endpoint to use. It never chooses an endpoint
// without security unless told to by name, and compares later what the session says
// with what was discovered without protection.
package discovery
