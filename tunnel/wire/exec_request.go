package wire

const typeExecRequest Type = 10

// ExecRequest starts a command in a container, or joins what runs there. Input
// frames may follow it without waiting for anything.
type ExecRequest struct {
	Namespace, Pod string
	// UID is the pod's; an edge that runs another pod under the same name refuses.
	UID       string
	Container string
	Command   []string
	TTY       bool
	Stdin     bool
	Stdout    bool
	Stderr    bool
	// Attach joins the container's own process instead of starting a command. An
	// edge that does not know the field finds no command, and refuses.
	Attach bool
}

// Type implements Frame.
func (*ExecRequest) Type() Type { return typeExecRequest }

func (f *ExecRequest) appendPayload(b []byte) []byte {
	b = appendBytes(b, f.Namespace)
	b = appendBytes(b, f.Pod)
	b = appendBytes(b, f.UID)
	b = appendBytes(b, f.Container)
	b = appendStrings(b, f.Command)
	b = appendBool(b, f.TTY)
	b = appendBool(b, f.Stdin)
	b = appendBool(b, f.Stdout)
	b = appendBool(b, f.Stderr)
	return appendBool(b, f.Attach)
}

func (f *ExecRequest) parsePayload(d *decoder) {
	f.Namespace = d.string()
	f.Pod = d.string()
	f.UID = d.string()
	f.Container = d.string()
	f.Command = d.strings()
	f.TTY = d.bool()
	f.Stdin = d.bool()
	f.Stdout = d.bool()
	f.Stderr = d.bool()
	f.Attach = len(d.b) > 0 && d.bool() // a cloud of before the field does not send it
}
