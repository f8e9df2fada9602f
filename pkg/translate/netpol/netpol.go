// Package netpol builds the companion NetworkPolicies: the L3/4 projection of the policies, which the node's kernel enforces outside the pod.
// Input: a model.Index. Output: companions by policy, and diagnostics. One entry point: Build.
package netpol

import (
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Companion is one NetworkPolicy made for a policy.
type Companion struct {
	Policy        model.PolicyRef
	DryRun        bool // would stand if the policy were enforced
	NetworkPolicy *networkingv1.NetworkPolicy
}

// Build returns the companions of every policy, sorted by namespace and name.
func Build(ix *model.Index) ([]Companion, []model.Diagnostic) { return nil, nil }
