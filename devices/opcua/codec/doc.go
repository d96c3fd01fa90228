// Package codec turns bytes from an OPC UA server into services and back (OPC
// UA Part 6, 5.2), with gopcua's decoder behind a guard. The guard walks a
// message before anything is allocated for it: gopcua's decoder takes array
// lengths and nesting as they come, and Go cannot recover from the stack or the
// memory that a hostile message can cost. Bodies of structures that only the
// server knows are kept as bytes for package values.
package codec
