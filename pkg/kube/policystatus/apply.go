package policystatus

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// ours are the condition types that we write.
func ours() []string {
	return []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionEnforced, v1alpha1.ConditionLayersAgree}
}

// same says whether a status stands as desired. When a condition changed is for the one who writes it to know.
func same(desired, stored *v1alpha1.L7PolicyStatus) bool {
	if desired.ObservedGeneration != stored.ObservedGeneration || desired.Proxies != stored.Proxies || desired.Enforced != stored.Enforced ||
		desired.FirstRefusal != stored.FirstRefusal {
		return false
	}
	for _, kind := range ours() {
		a, b := find(desired, kind), find(stored, kind)
		if (a == nil) != (b == nil) {
			return false
		}
		if a != nil && (a.Status != b.Status || a.Reason != b.Reason || a.Message != b.Message || a.ObservedGeneration != b.ObservedGeneration) {
			return false
		}
	}
	return true
}

func find(s *v1alpha1.L7PolicyStatus, kind string) *metav1.Condition {
	i := slices.IndexFunc(s.Conditions, func(c metav1.Condition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &s.Conditions[i]
}

// settling is how long a difference must last until it is written.
func settling(desired, stored *v1alpha1.L7PolicyStatus) time.Duration {
	is, was := find(desired, v1alpha1.ConditionEnforced), find(stored, v1alpha1.ConditionEnforced)
	if is == nil || is.Status != metav1.ConditionTrue || was != nil && was.Status == metav1.ConditionTrue && was.ObservedGeneration == is.ObservedGeneration {
		return settleTime
	}
	if c := find(desired, v1alpha1.ConditionLayersAgree); c != nil && c.Reason == v1alpha1.ReasonNotEvaluated {
		return compareTime
	}
	return 0
}

// merged is what is desired, with the times at which conditions changed.
func merged(desired, stored *v1alpha1.L7PolicyStatus, now time.Time) v1alpha1.L7PolicyStatus {
	out := *desired.DeepCopy()
	for i := range out.Conditions {
		c := &out.Conditions[i]
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		if was := find(stored, c.Type); was != nil && was.Status == c.Status {
			c.LastTransitionTime = was.LastTransitionTime
		}
	}
	return out
}

var errFollows = errors.New("another replica leads")

// write applies one status.
func (w *Writer) write(ctx context.Context, t task) outcome {
	o := outcome{uid: t.ref.UID, written: t.desired}
	if w.Leads() {
		o.err = w.apply(ctx, t)
		w.Metrics.wrote(o.err)
	} else {
		o.err = errFollows
	}
	o.at = time.Now()
	switch {
	case o.err == nil, errors.Is(o.err, errFollows):
	case apierrors.IsNotFound(o.err), apierrors.IsConflict(o.err), apierrors.IsInvalid(o.err), ctx.Err() != nil:
		// It is gone, or another has its name: what stands will say so.
		w.Logger.Debug("a policy's status was not written", "policy", t.ref.Namespace+"/"+t.ref.Name, "error", o.err)
	default:
		w.Logger.Warn("a policy's status cannot be written; it is tried again, and enforcement does not wait for it", "policy", t.ref.Namespace+"/"+t.ref.Name, "error", o.err)
	}
	return o
}

func (w *Writer) apply(ctx context.Context, t task) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return w.Client.ApplyStatus(ctx, t.ref, &t.desired, FieldManager)
}

// Metrics counts writes, and policies by whether they are enforced.
type Metrics struct {
	writes   *prometheus.CounterVec
	policies *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pilot_lite_status_writes_total", Help: "Statuses of policies that were written, by result."}, []string{"result"}),
		policies: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pilot_lite_policies", Help: "Policies by the reason of their Enforced condition; the leader's count.",
		}, []string{"reason"}),
	}
	r.MustRegister(m.writes, m.policies)
	return m
}

func (m *Metrics) wrote(err error) {
	if m == nil {
		return
	}
	result := "written"
	if err != nil {
		result = "failed"
	}
	m.writes.WithLabelValues(result).Inc()
}

// moved counts a policy under another reason; "" where it is new, or gone.
func (m *Metrics) moved(from, to string) {
	if m == nil || from == to {
		return
	}
	if from != "" {
		m.policies.WithLabelValues(from).Dec()
	}
	if to != "" {
		m.policies.WithLabelValues(to).Inc()
	}
}

// reasonOf is the reason of a status's Enforced condition.
func reasonOf(s *v1alpha1.L7PolicyStatus) string {
	if c := find(s, v1alpha1.ConditionEnforced); c != nil {
		return c.Reason
	}
	return ""
}

func (r *record) reason() string { return reasonOf(&r.desired) }
