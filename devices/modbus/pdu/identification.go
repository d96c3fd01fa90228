package pdu

import "fmt"

const (
	meiIdentification = 14
	identityHeader    = 7   // function, MEI type, code, conformity, more, next, count
	maxObjects        = 128 // an answer has room for no more
)

// Category says which objects of a device's identification to read (section 6.21).
type Category byte

// The categories. Basic and Regular are streams that may need several requests.
const (
	Basic      Category = 1
	Regular    Category = 2
	Extended   Category = 3
	Individual Category = 4
)

// Ids of the objects that have a name.
const (
	VendorName         = 0
	ProductCode        = 1
	MajorMinorRevision = 2
	VendorURL          = 3
	ProductName        = 4
	ModelName          = 5
	ApplicationName    = 6
)

// Object is one object of an identification.
type Object struct {
	ID    byte
	Value string // as sent: mostly ASCII
}

// Identification is one answer of a device about itself.
type Identification struct {
	Conformity byte
	More       bool // ask again from Next on
	Next       byte
	Objects    []Object
}

// Identify makes a request for the objects of a category from id object on.
func Identify(category Category, object byte) Request {
	return Request{byte(EncapsulatedInterface), meiIdentification, byte(category), object}
}

// ParseIdentification reads what Request.Check returned for an Identify.
func ParseIdentification(data []byte) (Identification, error) {
	if len(data) < identityHeader-1 || data[0] != meiIdentification {
		return Identification{}, fmt.Errorf("%w: identification of %d bytes", ErrMismatch, len(data))
	}
	id := Identification{Conformity: data[2], More: data[3] == 0xFF, Next: data[4]}
	count, rest := int(data[5]), data[6:]
	if count > maxObjects {
		return Identification{}, fmt.Errorf("%w: %d objects", ErrMismatch, count)
	}
	for range count {
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return Identification{}, fmt.Errorf("%w: object cut short", ErrMismatch)
		}
		n := 2 + int(rest[1])
		id.Objects = append(id.Objects, Object{ID: rest[0], Value: string(rest[2:n])})
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return Identification{}, fmt.Errorf("%w: %d bytes after the last object", ErrMismatch, len(rest))
	}
	return id, nil
}

// identificationSize is Request.Size for an identification: its objects must be
// walked to find the end.
func identificationSize(b []byte) int {
	if len(b) < identityHeader {
		return 0
	}
	n := identityHeader
	for range b[identityHeader-1] {
		if n+2 > MaxSize {
			return -1
		}
		if len(b) < n+2 {
			return 0
		}
		n += 2 + int(b[n+1])
	}
	if n > MaxSize {
		return -1
	}
	return n
}
