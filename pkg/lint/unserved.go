package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy/hcm"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// unserved finds what no request has that a sidecar serves, or hardly any: methods that are none, and headers whose names are refused.
func (l *linter) unserved(r *rule) {
	for i := range r.HTTP {
		field := fmt.Sprintf("%s.http[%d]", r.field(), i)
		for j, m := range r.HTTP[i].Methods {
			if slices.Contains(hcm.ServedMethods(), m) {
				continue
			}
			d := r.finding("method-not-served", model.SeverityWarning, fmt.Sprintf("%s.methods[%d]", field, j))
			d.Consequence, d.Remedy = "over HTTP/1 sidecars refuse the method "+m+", so hardly anybody sends it: "+r.matchesNothing()+" by it", "correct the method"
			l.found.Add(d)
		}
		l.unservedHeaders(r, field, r.HTTP[i].Headers)
	}
}

// unservedHeaders finds headers that the sidecars of every pod that is governed refuse.
func (l *linter) unservedHeaders(r *rule, field string, headers []model.HeaderMatch) {
	if !all(l.selected[r.policy], func(w *model.Workload) bool { return !w.Proxy.AllowUnderscoreHeader }) {
		return
	}
	for i, h := range headers {
		if !strings.Contains(h.Name, "_") {
			continue
		}
		d := r.finding("header-not-served", model.SeverityWarning, fmt.Sprintf("%s.headers[%d]", field, i))
		d.Consequence = "sidecars refuse requests with a header whose name has an underscore, so none has " + h.Name
		if !slices.Contains([]model.MatchType{model.Absent, model.NotExact, model.NotRegex}, h.Type) {
			d.Consequence += ": " + r.matchesNothing() + " by it"
		}
		d.Remedy = "write the header's name with dashes, or annotate the pods with policy.pilot-lite.io/allow-underscore-headers"
		l.found.Add(d)
	}
}
