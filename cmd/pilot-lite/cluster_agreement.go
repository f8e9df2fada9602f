package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// agreement compares the layers of rebuilds, beside everything else and after it: sidecars come first, and a storm of edits is compared now and then.
type agreement struct {
	report  atomic.Pointer[agree.Report]
	changed chan struct{}
	news    atomic.Int64 // when a proxy said something last, in Unix nanoseconds
}

const (
	// proxiesQuiet is how long no proxy has said anything when a rebuild's edits have arrived, and proxiesWait how long that is waited for at most: a status waits for the
	// comparison, too, but no longer than 200 ms.
	proxiesQuiet = 10 * time.Millisecond
	proxiesWait  = 100 * time.Millisecond
	// compareShare is the part of one processor that comparing may take while it is always asked for, and compareRest how long it rests at most.
	compareShare = 10
	compareRest  = time.Second
)

// heard notes that a proxy said something.
func (a *agreement) heard() { a.news.Store(time.Now().UnixNano()) }

// sidecarsFirst waits until proxies have answered for what a rebuild just changed.
func (a *agreement) sidecarsFirst(ctx context.Context) {
	began := time.Now()
	for ctx.Err() == nil && time.Since(began) < proxiesWait {
		time.Sleep(proxiesQuiet)
		if time.Since(time.Unix(0, a.news.Load())) > proxiesQuiet {
			return
		}
	}
}

// compareLayers follows the rebuilds until ctx is done.
func (s *clusterServer) compareLayers(ctx context.Context, a *agreement) {
	var checked comparer
	var last controlplane.Built
	for rebuilt := s.rebuilds(ctx); ; {
		select {
		case <-ctx.Done():
			return
		case <-rebuilt:
		}
		a.sidecarsFirst(ctx)
		built := s.loop.Built()
		if built == last {
			continue
		}
		last = built
		began := time.Now()
		report, err := checked.compare(built)
		if err != nil {
			s.logger.Error("the layers could not be compared: policies say that they were not", "error", err)
			checked = comparer{} // what was half found must not be taken for found
		}
		a.report.Store(report)
		select {
		case a.changed <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min((compareShare-1)*time.Since(began), compareRest)):
		}
	}
}

// comparer compares the layers of one rebuild after another.
type comparer struct {
	checker    agree.Checker
	companions []agree.Companion // scratch
}

// compare makes an error of a panic: what cannot be compared is still enforced.
func (c *comparer) compare(built controlplane.Built) (report *agree.Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			report, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	c.companions = c.companions[:0]
	for _, x := range built.Output.Companions {
		if !x.DryRun {
			c.companions = append(c.companions, agree.Companion{Policy: x.Policy, NetworkPolicy: x.NetworkPolicy})
		}
	}
	return c.checker.Check(built.Index, c.companions), nil
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
