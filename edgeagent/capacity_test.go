package edgeagent

import "testing"

// A runtime that was not asked yet is not said to lack anything.
func TestUnknownAbilities(t *testing.T) {
	if handlers, features := newAbilities(nil, "").handlers(); handlers != nil || features != nil {
		t.Errorf("%v and %v of a runtime that nobody has asked", handlers, features)
	}
}
