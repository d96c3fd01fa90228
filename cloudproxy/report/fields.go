package report

import "encoding/binary"

// countFields counts the fields of a protobuf message, and of whatever in it could
// be a message, too. An item of a list is a field, and in memory each is hundreds
// of bytes, even one of two bytes on the wire. Text that looks like a message counts
// a little too much.
func countFields(b []byte) int { return countFieldsWithin(b, maxDepth) }

// maxDepth is how deep messages are looked into; those of the API that edges send
// are not as deep.
const maxDepth = 12

func countFieldsWithin(b []byte, depth int) (count int) {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return count
		}
		b = b[n:]
		size := uint64(0)
		switch tag & 7 {
		case 0:
			_, n := binary.Uvarint(b)
			size = uint64(max(n, 0))
		case 1:
			size = 8
		case 2:
			var n int
			if size, n = binary.Uvarint(b); n <= 0 || size > uint64(len(b)-n) {
				return count + 1
			}
			b = b[n:]
			if depth > 0 {
				count += countFieldsWithin(b[:size], depth-1)
			}
		case 5:
			size = 4
		default:
			return count
		}
		count++
		b = b[min(size, uint64(len(b))):]
	}
	return count
}
