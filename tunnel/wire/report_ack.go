package wire

const typeReportAck Type = 9

// ReportAck says that the report with this Seq, and only that one, has been
// written where it belongs, or never can be; the edge may forget it.
type ReportAck struct {
	Seq uint64
}

// Type implements Frame.
func (*ReportAck) Type() Type { return typeReportAck }

func (f *ReportAck) appendPayload(b []byte) []byte { return appendUint(b, f.Seq) }

func (f *ReportAck) parsePayload(d *decoder) { f.Seq = d.uint() }
