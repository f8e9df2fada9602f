// Package rbac compiles the policies of one workload into the two RBAC filter configurations that its sidecar runs: the HTTP slot and the TCP
// slot. Input: policies in which every peer is already a set of addresses. Output: one TypedExtensionConfig per slot. Entry points: Compiler, whose
// Lower reads a policy once (LowerAfter, with what was read of it before) and whose Compile joins those of a workload; Compile, which does both; Salt, which makes a copy of what they return with
// other bytes and the same meaning.
package rbac

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Names of the slots. Constant, so that no name exists by which a proxy could ask for another's configuration.
const (
	HTTPSlot = "l7policy/http"
	TCPSlot  = "l7policy/tcp"
)

// Envoy overwrites x-forwarded-proto with the scheme of its own connection, which is http behind every ingress that ends TLS, and applications then
// redirect without end. KeptProto carries the caller's value past that: policies are about what the application will see, so they look there. Nobody
// else can set it, and the application does not see it.
const (
	ForwardedProto = "x-forwarded-proto"
	KeptProto      = "x-pilot-lite-forwarded-proto"
)

// Input is all that a workload's slots depend on, in a deterministic order.
type Input struct {
	Policies []Policy // that select the workload and govern ingress: by namespace, then name
	Ports    []PortMap
}

// Policy is one policy with its peers resolved.
type Policy struct {
	Ref    model.PolicyRef
	Action model.Action
	DryRun bool
	Rules  []Rule
}

// Rule matches when its sources, ports and http do.
type Rule struct {
	Name    string
	Sources *Sources          // nil: anyone; empty: nobody, and the rule matches nothing
	Ports   []model.PortRange // TCP numbers only, named ports resolved; nil: every port (for an Allow: but the reserved ones)
	HTTP    []model.HTTPMatch // nil: any
}

// Sources is a union of addresses and blocks. This is the seam where certificate identity comes in.
type Sources struct {
	Addresses []netip.Addr // ascending, unique
	Blocks    []model.IPBlock
}

// PortMap maps a policy's port to the port that the socket really has (bound mode). Sockets that are not listed have the port that policies name.
// Where one socket port stands for several policy ports (on different addresses), an Allow must name all of them, a Deny any.
type PortMap struct{ Policy, Socket uint16 }

// Slots are the two configurations of one workload.
type Slots struct {
	HTTP, TCP   *corev3.TypedExtensionConfig
	Diagnostics []model.Diagnostic
}
