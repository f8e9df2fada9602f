package controlplane

import (
	"log/slog"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// mostTold bounds how many findings one rebuild logs: whoever may write policies could fill a disk with them otherwise.
const mostTold = 20

// told are the findings that the log has.
type told struct{ list []model.Diagnostic }

// tell logs the findings that were not there before. Notices ask for nothing to be done, and stay out of the log; both lists are sorted.
func (t *told) tell(logger *slog.Logger, now []model.Diagnostic) {
	before := t.list
	if model.SameSlice(before, now) {
		return
	}
	t.list = now
	left := 0
	for i := range now {
		for len(before) > 0 && before[0].Compare(now[i]) < 0 {
			before = before[1:]
		}
		known := len(before) > 0 && before[0] == now[i]
		switch {
		case known || now[i].Severity == model.SeverityNotice:
		case left < mostTold:
			left++
			logger.Warn("a finding", "finding", now[i].String())
		default:
			left++
		}
	}
	if left > mostTold {
		logger.Warn("more findings: lint lists them all", "findings", left-mostTold)
	}
}
