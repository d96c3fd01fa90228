// Package pdu encodes and checks Modbus protocol data units: what a request and
// its answer hold, without the frame that carries them (MODBUS Application
// Protocol Specification V1.1b3, section 6).
//
//	request    function (1) | data (0..252)
//	answer     function (1) | data (0..252)
//	exception  function + 0x80 (1) | code (1)
//
// A Request is made by one of the constructors or by ParseRequest, and is then
// known to be within the bounds of the specification. An answer is only ever
// read together with its request: Request.Check refuses one that the request
// can't have, so that a hostile or confused peer costs an error, never a wrong
// value. All integers are big-endian.
package pdu
