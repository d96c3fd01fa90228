package session

import (
	"context"
	"fmt"

	"github.com/gopcua/opcua/ua"
)

const (
	maxReferences    = 1000    // of one node in one answer
	maxAllReferences = 1 << 17 // of one node
)

// Browse follows references of nodes: one list for each, in order, whole. A node
// that cannot be browsed has none.
func (s *Session) Browse(ctx context.Context, nodes []*ua.BrowseDescription) ([][]*ua.ReferenceDescription, error) {
	return Batch(ctx, &s.Operations.Browse, MostBrowses, nodes, func(part []*ua.BrowseDescription) ([][]*ua.ReferenceDescription, error) {
		r, err := Do[*ua.BrowseResponse](ctx, s, &ua.BrowseRequest{
			View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}, RequestedMaxReferencesPerNode: maxReferences, NodesToBrowse: part,
		})
		if err != nil {
			return nil, err
		}
		out := make([][]*ua.ReferenceDescription, len(r.Results))
		return out, s.more(ctx, r.Results, out)
	}, func(*ua.BrowseDescription, error) []*ua.ReferenceDescription { return nil })
}

// more takes results into out and asks for the rest (BrowseNext).
func (s *Session) more(ctx context.Context, results []*ua.BrowseResult, out [][]*ua.ReferenceDescription) error {
	where := make([]int, len(results))
	for i := range where {
		where[i] = i
	}
	for len(results) > 0 {
		var points [][]byte
		var next []int
		for i, r := range results {
			if r == nil || i >= len(where) {
				return fmt.Errorf("browse: more results than asked for")
			}
			at := where[i]
			out[at] = append(out[at], r.References...)
			if len(r.ContinuationPoint) > 0 && len(out[at]) < maxAllReferences {
				points, next = append(points, r.ContinuationPoint), append(next, at)
			}
		}
		if len(points) == 0 {
			return nil
		}
		r, err := Do[*ua.BrowseNextResponse](ctx, s, &ua.BrowseNextRequest{ContinuationPoints: points})
		if err != nil {
			return err
		}
		results, where = r.Results, next
	}
	return nil
}
