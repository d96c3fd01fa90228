// Package channel is one secure channel to an OPC UA server: UA TCP (Part 6, 7.1)
// and UA Secure Conversation (Part 6, 6.7) on a net.Conn, with gopcua's algorithms
// (uapolicy) and codec. It sends requests, matches the answers, renews its token,
// and knows nothing of sessions.
//
//	 type  chunk size  channel          OPN: policy, certificate, thumbprint
//	+-----+-----+----+---------+ clear  MSG, CLO: token
//	| MSG |  F  | u32|   u32   |-----------------+------------------------+
//	+-----+-----+----+---------+ security header | sequence, request,     |
//	                           |                 | body, padding, signed  |
//	                           +-----------------+---- encrypted ---------+
//
// It is here and not gopcua's uasc because of what cannot be mended from outside:
// that decodes in a goroutine of its own, where a panic ends the process; it takes
// the security policy and the certificate of the server's answer for its own
// configuration, so that whoever sits between may choose "None"; it checks no
// sequence numbers; a renewal that gets no answer stops all requests for ever.
//
// A Channel that failed stays failed: Done closes, Err says why. A ServiceFault is
// the answer to one request and no failure of the channel.
package channel
