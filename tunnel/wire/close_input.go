package wire

const typeCloseInput Type = 13

// CloseInput ends a command's standard input; its output goes on.
type CloseInput struct{}

// Type implements Frame.
func (*CloseInput) Type() Type { return typeCloseInput }

func (*CloseInput) appendPayload(b []byte) []byte { return b }

func (*CloseInput) parsePayload(*decoder) {}
