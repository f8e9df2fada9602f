package status

import (
	"slices"
	"strings"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Tracker keeps what it was told, and says what follows for those policies that something changed for: news of one proxy costs nothing for the policies that do not
// select it. Not safe for concurrent use.
type Tracker struct {
	started  time.Time
	index    *model.Index
	policies map[string]*tracked // by UID
	order    []*tracked          // as they were given last
	selected map[*model.Workload][]*tracked
	proxies  map[podName]proxy

	companions map[string]Companions // by the policy's UID, of policies that are not known yet, too
	agreement  func(p model.PolicyRef) Agreement
}

// tracked is a policy and what was said of it.
type tracked struct {
	Policy
	// enforcedBefore says that its status was True for this generation when this process came to write statuses.
	enforcedBefore bool
	companions     Companions
	agreement      Agreement
	dirty          bool
	next           time.Time // when time alone may change its status; zero: never
}

// podName is a proxy's pod, which is looked up for each policy that selects it.
type podName struct{ namespace, name string }

// proxy is what was said of one last.
type proxy struct {
	*Proxy                // nil: nothing
	behindSince time.Time // since when it does not run all that it should; zero where it does
}

// NewTracker returns a tracker that knows nothing yet. Proxies that were enforcing when it starts have LostGrace to show themselves.
func NewTracker(now time.Time) *Tracker {
	return &Tracker{started: now, policies: map[string]*tracked{}, selected: map[*model.Workload][]*tracked{}, proxies: map[podName]proxy{}, companions: map[string]Companions{}}
}

// SetPolicies takes over the policies of a snapshot: those that are not among them are gone. The list is not kept. Of those that are new or changed, enforced says whether
// their status was True for this generation when it was asked.
func (t *Tracker) SetPolicies(index *model.Index, policies []Policy, enforced func(p model.PolicyRef) bool) {
	t.index = index
	came := false
	for i := range policies {
		p := &policies[i]
		known := t.known(i, p.Ref.UID)
		switch {
		case known == nil:
			known, came = &tracked{companions: t.companions[p.Ref.UID]}, true
			t.policies[p.Ref.UID] = known
		case known.same(p):
			continue
		}
		t.selects(known, p.Selected)
		known.Policy, known.enforcedBefore, known.dirty = *p, enforced(p.Ref), true
		if t.agreement != nil {
			known.agreement = t.agreement(p.Ref)
		}
	}
	if !came && len(t.policies) == len(policies) {
		return
	}
	stay := make(map[string]*tracked, len(policies))
	t.order = make([]*tracked, 0, len(policies))
	for i := range policies {
		known := t.policies[policies[i].Ref.UID]
		stay[policies[i].Ref.UID], t.order = known, append(t.order, known)
	}
	for uid, p := range t.policies {
		if stay[uid] == nil {
			t.selects(p, nil)
		}
	}
	t.policies = stay
}

// selects notes that a policy selects other workloads than before, which are mostly the same in the same order.
func (t *Tracker) selects(p *tracked, now []*model.Workload) {
	was := p.Selected
	for len(was) > 0 && len(now) > 0 && was[0] == now[0] {
		was, now = was[1:], now[1:]
	}
	for len(was) > 0 && len(now) > 0 && was[len(was)-1] == now[len(now)-1] {
		was, now = was[:len(was)-1], now[:len(now)-1]
	}
	for _, w := range was {
		others := slices.DeleteFunc(t.selected[w], func(o *tracked) bool { return o == p })
		if t.selected[w] = others; len(others) == 0 {
			delete(t.selected, w)
		}
	}
	for _, w := range now {
		t.selected[w] = append(t.selected[w], p)
	}
}

// known is the policy of a UID, which most often stands where it stood before; nil where there is none.
func (t *Tracker) known(i int, uid string) *tracked {
	if i < len(t.order) && t.order[i].Ref.UID == uid {
		return t.order[i]
	}
	return t.policies[uid]
}

func (p *tracked) same(other *Policy) bool {
	return p.Ref == other.Ref && p.DryRun == other.DryRun && p.Ingress == other.Ingress && slices.Equal(p.Selected, other.Selected) && slices.Equal(p.Problems, other.Problems)
}

// SetCompanions takes over how the companions of a policy stand.
func (t *Tracker) SetCompanions(policyUID string, now Companions) {
	if now == (Companions{}) {
		delete(t.companions, policyUID)
	} else {
		t.companions[policyUID] = now
	}
	if p := t.policies[policyUID]; p != nil && p.companions != now {
		p.companions, p.dirty = now, true
	}
}

// SetAgreement takes over what the evaluator says, of policies that come or change later, too.
func (t *Tracker) SetAgreement(state func(p model.PolicyRef) Agreement) {
	t.agreement = state
	for _, p := range t.policies {
		if now := state(p.Ref); now != p.agreement {
			p.agreement, p.dirty = now, true
		}
	}
}

// SetProxies takes over what changed of some proxies.
func (t *Tracker) SetProxies(changed []*Proxy, now time.Time) {
	for _, said := range changed {
		namespace, name, _ := strings.Cut(said.Node, "/")
		pod := podName{namespace, name}
		was, is := t.proxies[pod], proxy{}
		if said.Gone {
			delete(t.proxies, pod)
		} else {
			is = was.followedBy(said, now)
			t.proxies[pod] = is
		}
		t.touch(pod, was, is)
	}
}

// touch notes which of the policies that select a pod are to be looked at.
func (t *Tracker) touch(pod podName, was, is proxy) {
	if t.index == nil {
		return
	}
	same := was.sameBut(is)
	for _, p := range t.selected[t.index.WorkloadOf(pod.namespace, pod.name)] {
		p.dirty = p.dirty || !same || was.of(p.Ref.UID) != is.of(p.Ref.UID)
	}
}

// followedBy is what is known once more was said.
func (p proxy) followedBy(said *Proxy, now time.Time) proxy {
	switch {
	case said.current():
		return proxy{said, time.Time{}}
	case p.Proxy != nil && !p.behindSince.IsZero() && p.UID == said.UID:
		return proxy{said, p.behindSince}
	}
	return proxy{said, now}
}

// sameBut says whether nothing but how single policies stand tells two proxies apart. Since when one is behind changes with that.
func (p proxy) sameBut(o proxy) bool {
	return p.Proxy != nil && o.Proxy != nil && p.UID == o.UID && p.Connected == o.Connected && p.Problem == o.Problem && (p.Connected || p.Since.Equal(o.Since))
}

// Evaluate says what the status is of each policy that something changed for, and when time alone changes the next; zero: never.
func (t *Tracker) Evaluate(now time.Time) (changed []Result, next time.Time) {
	for _, p := range t.policies {
		if p.dirty || !p.next.IsZero() && !now.Before(p.next) {
			p.dirty = false
			c := t.count(p, now)
			p.next = c.next
			changed = append(changed, Result{Ref: p.Ref, Status: p.status(&c)})
		}
		if !p.next.IsZero() && (next.IsZero() || p.next.Before(next)) {
			next = p.next
		}
	}
	return changed, next
}
