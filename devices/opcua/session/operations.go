package session

import (
	"context"
	"sync/atomic"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// Limit is how many operations of a kind one request may have.
type Limit struct{ n atomic.Int64 }

// Get is the limit; most where nobody has set one.
func (l *Limit) Get(most int) int {
	if n := l.n.Load(); n > 0 {
		return min(int(n), most)
	}
	return most
}

// learn lowers the limit to what was refused halved.
func (l *Limit) learn(refused int) {
	half := int64(max(1, refused/2))
	for {
		old := l.n.Load()
		if old > 0 && old <= half || l.n.CompareAndSwap(old, half) {
			return
		}
	}
}

// Operations are a server's limits (Part 5, 6.3.11), as told and as learned.
type Operations struct {
	Read, Write, Call, Browse, Items, History Limit
}

// What we send at most, whatever a server allows: an answer should stay below a few
// megabytes, and the time to make it below the watchdog's.
const (
	MostReads   = 1000
	MostWrites  = 500
	MostCalls   = 50
	MostBrowses = 200
	MostItems   = 1000
	MostHistory = 50
)

// read asks the server for its limits. A server without them is asked for what it
// takes as we go.
func (o *Operations) read(ctx context.Context, s *Session) {
	limits := []struct {
		node uint32
		to   *Limit
	}{
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead, &o.Read},
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite, &o.Write},
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerMethodCall, &o.Call},
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse, &o.Browse},
		{id.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall, &o.Items},
		{id.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData, &o.History},
	}
	for _, l := range limits { // one by one: MaxNodesPerRead may be 1
		r, err := Do[*ua.ReadResponse](ctx, s, &ua.ReadRequest{
			TimestampsToReturn: ua.TimestampsToReturnNeither,
			NodesToRead:        []*ua.ReadValueID{{NodeID: ua.NewNumericNodeID(0, l.node), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}}},
		})
		if err != nil || len(r.Results) != 1 || r.Results[0].Value == nil {
			continue
		}
		if n, ok := r.Results[0].Value.Value().(uint32); ok {
			l.to.n.Store(int64(n))
		}
	}
}
