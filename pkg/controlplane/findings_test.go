package controlplane_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// The log has each finding once for as long as it lasts, and again when it comes back; no notices, and no more of them than somebody would read.
func TestFindingsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	finding := func(severity model.Severity, name string) model.Diagnostic {
		return model.Diagnostic{Code: "relaxed", Severity: severity, Object: model.ObjectRef{Kind: "Pod", Namespace: "shop", Name: name}, Consequence: "it is"}
	}
	warning, failure, notice := finding(model.SeverityWarning, "b"), finding(model.SeverityError, "d"), finding(model.SeverityNotice, "c")
	var log bytes.Buffer
	source := &source{changed: make(chan struct{}, 1)}
	loop := controlplane.New(source, &sink{}, slog.New(slog.NewTextHandler(&log, nil)), nil)
	logged := func(found ...model.Diagnostic) []string {
		log.Reset()
		source.set(&model.Snapshot{Diagnostics: found})
		loop.Rebuild()
		var out []string
		for line := range strings.Lines(log.String()) {
			if _, text, is := strings.Cut(line, `finding="`); is {
				name, _, _ := strings.Cut(text, ":")
				_, rest, _ := strings.Cut(text, "shop/")
				out = append(out, name+" "+rest[:1])
			}
		}
		return out
	}
	for i, step := range []struct {
		found []model.Diagnostic
		want  []string
	}{
		{[]model.Diagnostic{warning, notice}, []string{"warning b"}},
		{[]model.Diagnostic{warning, notice}, nil},
		{[]model.Diagnostic{finding(model.SeverityWarning, "a"), warning, notice, failure}, []string{"warning a", "error d"}},
		{[]model.Diagnostic{failure}, nil},
		{nil, nil},
		{[]model.Diagnostic{failure}, []string{"error d"}},
	} {
		if diff := cmp.Diff(step.want, logged(step.found...)); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	var many []model.Diagnostic
	for i := range 50 {
		many = append(many, finding(model.SeverityWarning, fmt.Sprintf("x%02d", i)))
	}
	if got := logged(many...); len(got) != 20 || !strings.Contains(log.String(), "findings=30") {
		t.Errorf("of 50 findings %d are logged: %s", len(got), &log)
	}
}
