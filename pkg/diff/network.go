package diff

import (
	"net/netip"
	"reflect"
	"slices"
	"strconv"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// network is a NetworkPolicy: a companion, or another.
type network struct {
	name      string // the policy of a companion, as NAMESPACE/NAME, or "NetworkPolicy NAMESPACE/NAME"
	namespace string
	object    *networkingv1.NetworkPolicy
	pods      labels.Selector
	isolates  []model.Direction
	entries   []networkEntry
}

// networkEntry is a rule of a NetworkPolicy.
type networkEntry struct {
	direction model.Direction
	peers     []model.Peer // nil: anyone
	ports     []networkingv1.NetworkPolicyPort
}

// networkReader reads each NetworkPolicy once: most are the same object on both sides.
type networkReader map[*networkingv1.NetworkPolicy]*network

func (r networkReader) network(name string, np *networkingv1.NetworkPolicy) *network {
	if known := r[np]; known != nil {
		return known
	}
	n := &network{name: name, namespace: np.Namespace, object: np, isolates: isolated(&np.Spec)}
	var err error
	if n.pods, err = metav1.LabelSelectorAsSelector(&np.Spec.PodSelector); err != nil {
		n.pods = labels.Everything() // no API server would have taken it: whoever it may have meant is isolated
	}
	for _, rule := range np.Spec.Ingress {
		n.entries = append(n.entries, networkEntry{direction: model.Ingress, peers: peersOf(rule.From), ports: rule.Ports})
	}
	for _, rule := range np.Spec.Egress {
		n.entries = append(n.entries, networkEntry{direction: model.Egress, peers: peersOf(rule.To), ports: rule.Ports})
	}
	r[np] = n
	return n
}

// isolated are the directions that a NetworkPolicy isolates: ingress where it lists none, and egress too if it has rules for that.
func isolated(spec *networkingv1.NetworkPolicySpec) []model.Direction {
	if len(spec.PolicyTypes) == 0 {
		if len(spec.Egress) > 0 {
			return []model.Direction{model.Ingress, model.Egress}
		}
		return []model.Direction{model.Ingress}
	}
	var out []model.Direction
	for _, t := range spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			out = append(out, model.Ingress)
		case networkingv1.PolicyTypeEgress:
			out = append(out, model.Egress)
		}
	}
	return out
}

// peersOf are a NetworkPolicy's peers as the model has them; none mean anyone. One that no API server would have taken means nobody.
func peersOf(in []networkingv1.NetworkPolicyPeer) []model.Peer {
	var out []model.Peer
	for i := range in {
		p, understood := peerOf(&in[i])
		if !understood {
			p = model.Peer{Pods: labels.Nothing()}
		}
		out = append(out, p)
	}
	return out
}

func peerOf(in *networkingv1.NetworkPolicyPeer) (out model.Peer, understood bool) {
	var errs [2]error
	if in.PodSelector != nil {
		out.Pods, errs[0] = metav1.LabelSelectorAsSelector(in.PodSelector)
	}
	if in.NamespaceSelector != nil {
		out.Namespaces, errs[1] = metav1.LabelSelectorAsSelector(in.NamespaceSelector)
	}
	selects := in.PodSelector != nil || in.NamespaceSelector != nil
	if in.IPBlock != nil {
		out.Block, understood = blockOf(in.IPBlock)
		return out, understood && !selects
	}
	return out, selects && errs[0] == nil && errs[1] == nil
}

func blockOf(b *networkingv1.IPBlock) (*model.IPBlock, bool) {
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return nil, false
	}
	out := &model.IPBlock{CIDR: cidr.Masked()}
	for _, x := range b.Except {
		except, err := netip.ParsePrefix(x)
		if err != nil {
			return nil, false
		}
		out.Except = append(out.Except, except.Masked())
	}
	return out, true
}

// editNetworks notes the NetworkPolicies that do not decide alike on both sides.
func (c *comparison) editNetworks() {
	name := func(n *network) string { return n.namespace + "/" + n.object.Name }
	note := func(s side, n *network) {
		c.edited[n.namespace] = append(c.edited[n.namespace], edited{L4, s, n.pods})
	}
	alike := func(old, now *network) bool {
		return old == now || old.name == now.name && reflect.DeepEqual(old.object.Spec, now.object.Spec)
	}
	eachEdited(c.before.networks, c.after.networks, name, alike, note)
}

// selecting are the NetworkPolicies that isolate a workload in a direction.
func (w *world) selecting(o *model.Workload, d model.Direction) []*network {
	var out []*network
	for _, n := range w.networks[o.Namespace] {
		if slices.Contains(n.isolates, d) && n.pods.Matches(labels.Set(o.Labels)) {
			out = append(out, n)
		}
	}
	return out
}

// networkFrame is what NetworkPolicies decide about a workload in a direction: nothing is denied but by isolation.
func (c *comparison) networkFrame(w *world, e *entity, d model.Direction) *frame {
	o := e.on(w.side)
	selecting := w.selecting(o, d)
	f := &frame{isolated: len(selecting) > 0}
	for _, n := range selecting {
		for i := range n.entries {
			if n.entries[i].direction == d {
				c.addEntry(f, w, o, n, &n.entries[i])
			}
		}
	}
	return f
}

func (c *comparison) addEntry(f *frame, w *world, o *model.Workload, n *network, entry *networkEntry) {
	from := c.sourcesOf(w, n.namespace, entry.peers)
	if len(entry.ports) == 0 {
		f.rules = append(f.rules, rule{name: n.name, sources: from, ports: everyPort()})
		return
	}
	numbered := rule{name: n.name, sources: from}
	for _, p := range entry.ports {
		protocol := model.TCP
		if p.Protocol != nil && *p.Protocol != "" {
			protocol = model.Protocol(*p.Protocol)
		}
		switch {
		case p.EndPort != nil && (p.Port == nil || p.Port.Type == intstr.String): // no API server would have taken it: nothing is opened
		case p.Port == nil:
			numbered.ports = append(numbered.ports, every(protocol))
		case p.Port.Type == intstr.String && entry.direction == model.Ingress:
			numbered.ports = append(numbered.ports, named(o, protocol, p.Port.StrVal)...)
		case p.Port.Type == intstr.String:
			f.rules = append(f.rules, c.namedBeyond(w, n.name, from, protocol, p.Port.StrVal)...)
		default:
			last := p.Port.IntVal
			if p.EndPort != nil {
				last = *p.EndPort
			}
			if p.Port.IntVal >= 1 && p.Port.IntVal <= last && last <= lastPort {
				numbered.ports = append(numbered.ports, PortRange{protocol, uint16(p.Port.IntVal), uint16(last)})
			}
		}
	}
	if len(numbered.ports) > 0 {
		f.rules = append(f.rules, numbered)
	}
}

// named are the ports of that name that a workload's pods declare.
func named(w *model.Workload, protocol model.Protocol, name string) []PortRange {
	var out []PortRange
	for _, pod := range w.Pods {
		for _, p := range pod.Ports {
			if r := (PortRange{protocol, p.Number, p.Number}); p.Name == name && p.Protocol == protocol && !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out
}

// namedBeyond are the ports of that name at the other end: those of the pods that stand, since nobody knows what other pods would call their ports.
func (c *comparison) namedBeyond(w *world, name string, to *sources, protocol model.Protocol, port string) []rule {
	var out []rule
	for i := range c.entities {
		e := &c.entities[i]
		ports := named(e.on(w.side), protocol, port)
		if len(ports) == 0 || e.points.empty() {
			continue
		}
		s := &sources{points: e.points, byLabels: e.points, among: e.points}
		key := "among " + e.points.key()
		if to != nil {
			s.peers, s.points, s.byLabels = to.peers, e.points.and(to.points), e.points.and(to.byLabels)
			key += " " + strconv.Itoa(to.id)
		}
		s.id = c.id(key)
		out = append(out, rule{name: name, sources: s, ports: ports})
	}
	return out
}

// compareL4 compares what NetworkPolicies let through, to and from a workload.
func (c *comparison) compareL4(e *entity) {
	if e.hostNetwork() {
		return
	}
	for _, d := range []model.Direction{model.Ingress, model.Egress} {
		if c.mayDiffer(L4, e) || d == model.Egress && c.portsMoved && c.namesPortsBeyond(e) {
			c.compareEntity(L4, d, e, c.networkFrame(c.before, e, d), c.networkFrame(c.after, e, d))
		}
	}
}

// namesPortsBeyond says whether ports are named at the other end.
func (c *comparison) namesPortsBeyond(e *entity) bool {
	return slices.ContainsFunc(slices.Concat(c.before.selecting(e.before, model.Egress), c.after.selecting(e.after, model.Egress)), func(n *network) bool {
		return slices.ContainsFunc(n.entries, func(x networkEntry) bool {
			return x.direction == model.Egress && slices.ContainsFunc(x.ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port != nil && p.Port.Type == intstr.String })
		})
	})
}
