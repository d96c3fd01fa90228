package onboard

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Found is what a browse has found.
type Found struct {
	Types []v1alpha1.TypeDefinition
	Nodes []survey.Node
	// Truncated says that there is more than the browse was to find.
	Truncated bool
}

// EndError is a browse that failed at the edge.
type EndError struct{ survey.End }

func (e *EndError) Error() string { return e.End.Error }

// maxFoundTypes bounds what an edge may make us keep; nodes have survey.MaxNodes.
const maxFoundTypes = 10_000

// ReadFound reads a browse's answer; progress may be nil. An answer that ends without
// saying so is an error, and one that failed at the edge is an *EndError.
func ReadFound(r io.Reader, progress func(survey.Progress)) (Found, error) {
	var f Found
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, survey.MaxLine+1)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var l survey.Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return f, fmt.Errorf("read the browse's answer: %w", err)
		}
		switch {
		case l.Progress != nil && progress != nil:
			progress(*l.Progress)
		case l.Type != nil && len(f.Types) < maxFoundTypes:
			f.Types = append(f.Types, *l.Type)
		case l.Node != nil && len(f.Nodes) < survey.MaxNodes:
			f.Nodes = append(f.Nodes, *l.Node)
		case l.End != nil && l.End.Error != "":
			return f, &EndError{*l.End}
		case l.End != nil:
			f.Truncated = l.End.Truncated
			return f, nil
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, bufio.ErrTooLong) {
		err = fmt.Errorf("a line has more than %d bytes", survey.MaxLine)
	}
	return f, fmt.Errorf("the browse's answer is cut off: %w", err)
}
