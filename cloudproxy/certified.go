package cloudproxy

import (
	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/cloudproxy/standing"
)

// certified shows the registry's sessions to package standing.
type certified struct{ *registry.Registry }

// Sessions implements standing.Edges.
func (c certified) Sessions() []standing.Session {
	var list []standing.Session
	for _, i := range c.Registry.Sessions() {
		list = append(list, standing.Session{Node: i.Node, Since: i.Stats.Since, Certificate: i.Certificate})
	}
	return list
}

// Session implements standing.Edges.
func (c certified) Session(node string) (standing.Session, bool) {
	i, _, ok := c.Registry.Session(node)
	return standing.Session{Node: node, Since: i.Stats.Since, Certificate: i.Certificate}, ok
}

// certificateNote is what an edge's Node tells of its certificate.
func certificateNote(stand *standing.Keeper, node string) map[string]string {
	note, ok := stand.Note(node)
	if !ok {
		return nil
	}
	return map[string]string{standing.Annotation: note.String()}
}
