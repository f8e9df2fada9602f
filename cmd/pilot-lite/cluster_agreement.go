package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// agreement compares the layers of each rebuild, beside everything else: nothing waits for it.
type agreement struct {
	report  atomic.Pointer[agree.Report]
	changed chan struct{}
}

// compareLayers follows the rebuilds until ctx is done.
func (s *clusterServer) compareLayers(ctx context.Context, a *agreement) {
	checker := &agree.Checker{}
	var last controlplane.Built
	for rebuilt := s.rebuilds(ctx); ; {
		select {
		case <-ctx.Done():
			return
		case <-rebuilt:
		}
		built := s.loop.Built()
		if built == last {
			continue
		}
		last = built
		report, err := compareOnce(checker, built)
		if err != nil {
			s.logger.Error("the layers could not be compared: policies say that they were not", "error", err)
			checker = &agree.Checker{} // what was half found must not be taken for found
		}
		a.report.Store(report)
		select {
		case a.changed <- struct{}{}:
		default:
		}
	}
}

// compareOnce makes an error of a panic: what cannot be compared is still enforced.
func compareOnce(checker *agree.Checker, built controlplane.Built) (report *agree.Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			report, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	companions := make([]agree.Companion, 0, len(built.Output.Companions))
	for _, c := range built.Output.Companions {
		if !c.DryRun {
			companions = append(companions, agree.Companion{Policy: c.Policy, NetworkPolicy: c.NetworkPolicy})
		}
	}
	return checker.Check(built.Index, companions), nil
}

// agreementOf is what a policy's status tells of a report, which may be nil.
func agreementOf(report *agree.Report, p model.PolicyRef) status.Agreement {
	if report == nil {
		return status.Agreement{}
	}
	found := report.Verdict(p)
	out := status.Agreement{Status: metav1.ConditionUnknown, Reason: found.Reason, Message: found.Text}
	switch found.State {
	case agree.Agrees:
		out.Status = metav1.ConditionTrue
	case agree.Disagrees:
		out.Status = metav1.ConditionFalse
	case agree.NotEvaluated:
		if out.Reason == "" || out.Reason == "Unknown" {
			out.Reason = v1alpha1.ReasonNotEvaluated
		}
	}
	return out
}
