package opcua_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/browse"
	"github.com/skerry-io/skerry/devices/opcua/discovery"
	"github.com/skerry-io/skerry/devices/opcua/session"
)

func TestBrowse(t *testing.T) {
	p := startPeer(t, map[string]any{"tree": 3500})
	s := opened(t, p, discovery.Want{}, session.User{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	begin := time.Now()
	nodes, err := browse.Walk(ctx, s, ua.NewNumericNodeID(0, id.ObjectsFolder), browse.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d nodes in %v", len(nodes), time.Since(begin))
	tags, seen := 0, map[string]bool{}
	for _, n := range nodes {
		if seen[n.ID.String()] {
			t.Errorf("%s twice", n.ID)
		}
		seen[n.ID.String()] = true
		if n.Class == ua.NodeClassVariable && n.DataType == nil {
			t.Errorf("%s has no data type", n.ID)
		}
		if strings.HasPrefix(n.ID.StringID(), "Tag") {
			tags++
		}
		if n.BrowseName.Name == "Analog" {
			if n.Unit == nil || n.Unit.DisplayName.Text != "°C" || n.Range == nil || n.Range.High != 100 {
				t.Errorf("Analog: unit %+v range %+v", n.Unit, n.Range)
			}
		}
	}
	if tags != 3500 {
		t.Errorf("%d tags of 3500", tags)
	}
	few, err := browse.Walk(ctx, s, ua.NewNumericNodeID(0, id.ObjectsFolder), browse.Limits{Nodes: 100})
	if !errors.Is(err, browse.ErrTooMany) || len(few) != 100 {
		t.Errorf("%d nodes, %v", len(few), err)
	}
}
