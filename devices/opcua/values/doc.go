// Package values turns what OPC UA servers send into values of package devices and
// back. Enumerations get their names and structures their fields from the server's
// own definitions (attribute DataTypeDefinition, Part 3, 8.48), read once per
// session.
package values
