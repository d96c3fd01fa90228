// Package twin holds what is known of one property of a device and what it
// should be, and decides: does a sample go on, has a value become stale, what is
// written next. It is pure logic over samples and times that the caller gives;
// edgeagent/devices is the caller.
package twin
