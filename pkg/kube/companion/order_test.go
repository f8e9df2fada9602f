package companion

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// While the companions of one world are turned into those of the next, by single writes in any order that the controller allows, with writes that fail and a cache that
// lags, it holds at every moment, for each end of each flow:
//   - never open: what passes, passed before or passes after;
//   - with the callee's sidecar at either version: what both layers let pass, both did before or both do after;
//   - what one and the same companion lets pass before and after, passes throughout. (What other companions take over can be shut until the last write has arrived.)
//
// And in the end exactly what is desired stands.
func TestNoOrderOfWritesOpens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := netpoltest.World(t)
		s := newScene(before, netpoltest.Edit(t, before))
		s.check(t, "before the first write")
		const enough = 400
		for range enough {
			s.compare()
			actions := s.offered()
			if len(actions) == 0 && s.caughtUp() {
				s.finished(t)
				return
			}
			switch {
			case len(actions) == 0 || rapid.IntRange(0, 2).Draw(t, "read") == 0:
				s.read(t)
			case rapid.IntRange(0, 4).Draw(t, "fails") == 0:
			default:
				a := rapid.SampledFrom(actions).Draw(t, "write")
				s.write(a)
				s.check(t, a.name.Name)
			}
		}
		t.Fatal("it never ends")
	})
}

// Policies that are deleted take their companions with them, in whatever order the garbage collector likes, and before the others' are adapted.
func TestNoOrderOfCollectionOpens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := netpoltest.World(t)
		after := *before
		after.Policies = nil
		deleted := map[string]bool{}
		for _, p := range before.Policies {
			if rapid.Bool().Draw(t, "deleted") {
				deleted[p.UID] = true
				continue
			}
			after.Policies = append(after.Policies, p)
		}
		s := newScene(before, &after)
		const enough = 400
		for range enough {
			s.compare()
			var doomed []types.NamespacedName
			for name, np := range s.real {
				if deleted[string(np.OwnerReferences[0].UID)] {
					doomed = append(doomed, name)
				}
			}
			slices.SortFunc(doomed, func(a, b types.NamespacedName) int { return strings.Compare(a.Name, b.Name) })
			actions := s.offered()
			if len(actions)+len(doomed) == 0 && s.caughtUp() {
				s.finished(t)
				return
			}
			switch kind := rapid.IntRange(0, 2).Draw(t, "step"); {
			case kind == 0 && len(doomed) > 0:
				name := rapid.SampledFrom(doomed).Draw(t, "collected")
				delete(s.real, name)
				s.check(t, "collected "+name.Name)
			case kind == 1 && len(actions) > 0:
				a := rapid.SampledFrom(actions).Draw(t, "write")
				s.write(a)
				s.check(t, a.name.Name)
			default:
				s.read(t)
			}
		}
		t.Fatal("it never ends")
	})
}

// scene is a controller before an API server that a test plays.
type scene struct {
	controller    *Controller
	now           time.Time
	real, view    map[types.NamespacedName]*networkingv1.NetworkPolicy
	version       int
	flows         []flow
	before, after fence
	throughout    []bool // what one companion lets pass before and after
	memo          map[*networkingv1.NetworkPolicy]part
	desired       []netpol.Companion
	policies      *model.Snapshot // whose companions are desired
}

// flow is one end of a flow, with what the callee's sidecar says of it before and after.
type flow struct {
	governed, other netpoltest.Party
	direction       networkingv1.PolicyType
	port            uint16
	protocol        model.Protocol
	l7              [2]bool // only where hasL7
	hasL7           bool
}

// part is what one NetworkPolicy does to each flow.
type part struct{ isolates, allows []bool }

// fence is what a set of NetworkPolicies lets pass.
type fence []bool

func newScene(before, after *model.Snapshot) *scene {
	s := &scene{now: time.Unix(0, 0), real: map[types.NamespacedName]*networkingv1.NetworkPolicy{}, memo: map[*networkingv1.NetworkPolicy]part{}}
	ix := [2]*model.Index{model.NewIndex(before), model.NewIndex(after)}
	s.flows = flows(ix)
	old, _ := new(netpol.Builder).Build(ix[0])
	for i := range old {
		if !old[i].DryRun {
			s.put(refOf(before, old[i].Policy), old[i].NetworkPolicy, "")
		}
	}
	s.view = maps.Clone(s.real)
	s.desired, _ = new(netpol.Builder).Build(ix[1])
	s.desired = slices.DeleteFunc(s.desired, func(c netpol.Companion) bool { return c.DryRun })
	s.before = s.fence(slices.Collect(maps.Values(s.real)))
	var next []*networkingv1.NetworkPolicy
	for i := range s.desired {
		next = append(next, s.desired[i].NetworkPolicy)
	}
	s.after = s.fence(next)
	s.throughout = make([]bool, len(s.flows))
	for _, np := range next {
		if old := s.real[nameOf(np)]; old != nil {
			for i := range s.flows {
				s.throughout[i] = s.throughout[i] || s.part(old).allows[i] && s.part(np).allows[i]
			}
		}
	}
	s.policies = after
	d := Desired{Companions: s.desired, Policies: after.Policies}
	s.controller = New(Config{Standing: s, Desired: func() (Desired, bool) { return d, true }})
	s.controller.records = map[types.NamespacedName]*record{}
	return s
}

// refOf is a companion's policy, with its generation.
func refOf(s *model.Snapshot, p model.PolicyRef) model.PolicyRef {
	i := slices.IndexFunc(s.Policies, func(q *model.Policy) bool { return q.UID == p.UID && q.Namespace == p.Namespace && q.Name == p.Name })
	return s.Policies[i].PolicyRef
}

func flows(ix [2]*model.Index) []flow {
	var out []flow
	for _, governed := range netpoltest.Parties(ix[0]) {
		if governed.Namespace != "shop" {
			continue
		}
		for _, other := range netpoltest.Parties(ix[0]) {
			for _, port := range []uint16{80, 8081, 8090, 15006, 15100} {
				for _, protocol := range []model.Protocol{model.TCP, model.UDP} {
					f := flow{governed: governed, other: other, direction: networkingv1.PolicyTypeEgress, port: port, protocol: protocol}
					out = append(out, f)
					f.direction = networkingv1.PolicyTypeIngress
					reserved := port >= model.ReservedFirst && port <= model.ReservedLast // the sidecar's own, behind which is no application
					if f.hasL7 = governed.Injected && protocol == model.TCP && !reserved; f.hasL7 {
						for i := range ix {
							w := ix[i].WorkloadOf("shop", strings.TrimPrefix(governed.Name, "shop/"))
							r := model.Request{Source: other.Address, Port: port, HTTP: &model.HTTPRequest{Method: "GET", Host: "a", Path: "/"}}
							if p, found := w.Port(port); !found || p.Protocol != model.AppHTTP {
								r.HTTP = nil
							}
							f.l7[i] = eval.Ingress(ix[i], w, r).Allowed
						}
					}
					out = append(out, f)
				}
			}
		}
	}
	return out
}

// NetworkPolicies are what the controller's cache holds.
func (s *scene) NetworkPolicies() []*networkingv1.NetworkPolicy {
	return slices.Collect(maps.Values(s.view))
}

func (s *scene) put(p model.PolicyRef, np *networkingv1.NetworkPolicy, uid types.UID) {
	s.version++
	stored := *np
	stored.Annotations = map[string]string{AnnotationBuiltFrom: builtFromText(p)}
	stored.ResourceVersion, stored.UID = fmt.Sprint(s.version), uid
	if uid == "" {
		stored.UID = types.UID("uid-" + stored.ResourceVersion)
	}
	stored.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: FieldManager, Operation: metav1.ManagedFieldsOperationApply}}
	s.memo[&stored] = s.part(np)
	s.real[nameOf(np)] = &stored
}

// compare has the controller look at once and a minute later, when nothing is waited for any more.
func (s *scene) compare() {
	s.controller.compare(s.now)
	s.now = s.now.Add(time.Minute)
	s.controller.compare(s.now)
}

// offered are the writes that the controller would make now, in any order: workers run side by side, and what failed comes later.
func (s *scene) offered() []*action {
	var out []*action
	for _, t := range s.controller.queue {
		out = append(out, t.actions...)
	}
	return out
}

// write is what the API server does with an action.
func (s *scene) write(a *action) {
	real := s.real[a.name]
	switch {
	case a.standing != nil && (real == nil || real.ResourceVersion != a.standing.ResourceVersion): // a conflict
	case a.desired == nil:
		delete(s.real, a.name)
	case real == nil:
		s.put(a.policy, a.desired, "")
	case a.standing != nil:
		s.put(a.policy, a.desired, real.UID)
	}
}

// read lets the cache learn of one object, or of all.
func (s *scene) read(t *rapid.T) {
	if rapid.Bool().Draw(t, "all") {
		s.view = maps.Clone(s.real)
		return
	}
	behind := map[types.NamespacedName]bool{}
	for name := range s.real {
		behind[name] = s.view[name] != s.real[name]
	}
	for name := range s.view {
		behind[name] = s.view[name] != s.real[name]
	}
	maps.DeleteFunc(behind, func(_ types.NamespacedName, b bool) bool { return !b })
	if len(behind) == 0 {
		return
	}
	name := rapid.SampledFrom(slices.SortedFunc(maps.Keys(behind), func(a, b types.NamespacedName) int { return strings.Compare(a.Name, b.Name) })).Draw(t, "object")
	if np := s.real[name]; np != nil {
		s.view[name] = np
	} else {
		delete(s.view, name)
	}
}

func (s *scene) caughtUp() bool { return maps.Equal(s.real, s.view) }

func (s *scene) part(np *networkingv1.NetworkPolicy) part {
	if p, known := s.memo[np]; known {
		return p
	}
	silent := *np
	silent.Spec.Ingress, silent.Spec.Egress = nil, nil
	p := part{isolates: make([]bool, len(s.flows)), allows: make([]bool, len(s.flows))}
	for i, f := range s.flows {
		p.isolates[i] = !netpoltest.Kernel{&silent}.Passes(f.direction, f.governed.End, f.other.End, f.port, f.protocol)
		p.allows[i] = p.isolates[i] && netpoltest.Kernel{np}.Passes(f.direction, f.governed.End, f.other.End, f.port, f.protocol)
	}
	s.memo[np] = p
	return p
}

func (s *scene) fence(set []*networkingv1.NetworkPolicy) fence {
	isolated, allowed := make([]bool, len(s.flows)), make(fence, len(s.flows))
	for _, np := range set {
		p := s.part(np)
		for i := range s.flows {
			isolated[i] = isolated[i] || p.isolates[i]
			allowed[i] = allowed[i] || p.allows[i]
		}
	}
	for i := range allowed {
		allowed[i] = allowed[i] || !isolated[i]
	}
	return allowed
}

func (s *scene) check(t *rapid.T, what string) {
	now := s.fence(slices.Collect(maps.Values(s.real)))
	for i, f := range s.flows {
		say := func(claim string) {
			t.Fatalf("after %s: %s: %s at %s, with %s, %s %d; before %t, now %t, after %t; sidecar %v\nstanding:%s\ndesired:%s", what, claim, f.direction, f.governed.Name, f.other.Name,
				f.protocol, f.port, s.before[i], now[i], s.after[i], f.l7, describe(slices.Collect(maps.Values(s.real))), describe(policies(s.desired)))
		}
		if now[i] && !s.before[i] && !s.after[i] {
			say("open")
		}
		if !now[i] && s.throughout[i] {
			say("shut")
		}
		for _, l7 := range f.l7 {
			before, after := s.before[i] && f.l7[0], s.after[i] && f.l7[1]
			if f.hasL7 && now[i] && l7 && !before && !after {
				say("open on both layers")
			}
		}
	}
}

func policies(companions []netpol.Companion) []*networkingv1.NetworkPolicy {
	var out []*networkingv1.NetworkPolicy
	for i := range companions {
		out = append(out, companions[i].NetworkPolicy)
	}
	return out
}

func describe(set []*networkingv1.NetworkPolicy) string {
	var b strings.Builder
	slices.SortFunc(set, func(a, b *networkingv1.NetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
	for _, np := range set {
		fmt.Fprintf(&b, "\n  %s %v %v", np.Name, np.Spec.PodSelector, np.Spec.PolicyTypes)
	}
	return b.String()
}

// finished: exactly what is desired stands.
func (s *scene) finished(t *rapid.T) {
	if len(s.real) != len(s.desired) {
		t.Fatalf("%d stand, %d are desired", len(s.real), len(s.desired))
	}
	for _, c := range s.desired {
		if np := s.real[nameOf(c.NetworkPolicy)]; np == nil || !asDesired(refOf(s.policies, c.Policy), c.NetworkPolicy, np) {
			t.Fatalf("%s does not stand", c.NetworkPolicy.Name)
		}
	}
	s.check(t, "the end")
}
