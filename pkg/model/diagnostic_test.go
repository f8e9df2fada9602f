package model_test

import (
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// A finding is one line, and nothing in it makes a terminal do anything: names come from files that somebody else wrote.
func TestAFindingIsOneLine(t *testing.T) {
	t.Parallel()
	d := model.Diagnostic{
		Code: "object-name", Severity: model.SeverityError, Field: "metadata.name", Consequence: "it is none", Remedy: "write caf\u00e9",
		Object: model.ObjectRef{Kind: "L7Policy", Namespace: "shop", Name: "a\nok: 1 policies\x1b[2J\u202e", Source: "a\rb.yaml:1"},
	}
	const want = `a\rb.yaml:1: error: L7Policy shop/a\nok: 1 policies\x1b[2J\u202e: metadata.name: it is none; write caf` + "\u00e9 [object-name]"
	if got := d.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
