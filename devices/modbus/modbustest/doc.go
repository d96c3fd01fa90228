// Package modbustest is a Modbus device for tests in virtual time: units with
// memory, delays and faults behind one connection. The tests against devices that
// others have written are in tests/devices/modbus.
package modbustest
