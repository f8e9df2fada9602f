package eval

import (
	"net/netip"

	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Party is one end of a call: a pod, or somebody outside. The zero value is somebody of whom nothing is known: no rule that names anybody means them.
type Party struct {
	Workload *model.Workload // the pod's; nil: no pod of the snapshot
	Pod      *model.Pod
	Address  netip.Addr // invalid where it is not known, as for a workload without pods that run
}

// PartyAt is whoever holds an address: a pod of the snapshot, or somebody outside.
func PartyAt(ix *model.Index, a netip.Addr) Party {
	p := Party{Address: a.Unmap()}
	if p.Pod = ix.PodAt(p.Address); p.Pod != nil {
		p.Workload = ix.WorkloadOf(p.Pod.Namespace, p.Pod.Name)
	}
	return p
}

// PodParty is a pod, with the first of its addresses.
func PodParty(ix *model.Index, pod *model.Pod) Party {
	p := Party{Pod: pod, Workload: ix.WorkloadOf(pod.Namespace, pod.Name)}
	if len(pod.Addresses) > 0 {
		p.Address = pod.Addresses[0]
	}
	return p
}

// WorkloadParty is one pod of a workload: the first that has an address, else the first.
func WorkloadParty(ix *model.Index, w *model.Workload) Party {
	for _, pod := range w.Pods {
		if len(pod.Addresses) > 0 {
			return PodParty(ix, pod)
		}
	}
	return PodParty(ix, w.Pods[0])
}

// End is the party as NetworkPolicies see it.
func (p Party) End(ix *model.Index) kernel.End {
	e := kernel.End{Pod: p.Pod, Address: p.Address}
	if p.Pod != nil {
		e.NamespaceLabels = ix.NamespaceLabels(p.Pod.Namespace)
	}
	return e
}

// selectable says whether selectors and isolation concern the party: a pod on the host's network is known by the node's address alone.
func (p Party) selectable() bool { return p.Pod != nil && !p.Pod.HostNetwork }

// String is "NAMESPACE/WORKLOAD", an address, or "an unknown caller".
func (p Party) String() string {
	switch {
	case p.Workload != nil:
		return p.Workload.Namespace + "/" + p.Workload.Name
	case p.Pod != nil:
		return p.Pod.Namespace + "/" + p.Pod.Name
	case p.Address.IsValid():
		return p.Address.String()
	}
	return "an unknown caller"
}
