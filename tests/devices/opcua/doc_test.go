// Package opcua_test drives devices/opcua against OPC UA servers by others, with
// faults between them: node-opcua in a process of its own, behind a proxy that cuts
// and swallows. SKERRY_E2E=1 runs it; it needs Node.js.
package opcua_test
