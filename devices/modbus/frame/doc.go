// Package frame carries protocol data units over TCP and over serial lines: what
// the specifications call the ADU. It reads bytes and writes bytes and has no
// connection, no clock and no goroutine.
//
//	MBAP (MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3)
//	transaction (2) | protocol 0 (2) | length of the rest (2) | unit (1) | PDU
//
//	RTU (MODBUS over Serial Line V1.02, 2.5.1), also over TCP
//	unit (1) | PDU | CRC, low byte first (2)
//
// An RTU frame has neither a length nor a start: the specification tells frames
// apart by 3.5 characters of silence, which no operating system, no USB adapter
// and no TCP gateway keeps. So the end of an answer is computed from the request
// it belongs to, the CRC confirms it, and silence only decides when to give up
// waiting for the rest of a damaged one.
package frame
