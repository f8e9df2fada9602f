package companion

import (
	"cmp"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// task is what is to be written of one policy's companions.
type task struct {
	policy  string // "namespace/name"
	actions []*action
	failed  int // how often any of it was tried in vain
}

// action is one write. Its outcome is filled in by the worker.
type action struct {
	name     types.NamespacedName
	policy   model.PolicyRef             // as the view has it; the zero generation where the view does not know it
	desired  *networkingv1.NetworkPolicy // nil: to be deleted
	standing *networkingv1.NetworkPolicy // nil: to be made
	isolates bool
	repair   bool
	outcome  failure
	skipped  bool // we no longer lead
}

// comparison is one look at everything.
type comparison struct {
	*Controller
	now      time.Time
	worse    map[string]State
	policies []*model.Policy
	byUID    map[string]int                                       // their places, once somebody asked
	standing map[types.NamespacedName]*networkingv1.NetworkPolicy // those that there is no record of
	missing  map[string][]*networkingv1.NetworkPolicy             // desired, by namespace, and not (yet) isolating what it should
	tasks    map[string]*task
	counts   map[Phase]int
	next     time.Time
}

// compare holds what stands against what is desired, queues what is to be written, and returns when to compare again.
func (c *Controller) compare(now time.Time) time.Duration {
	desired, complete := c.Desired()
	if !complete {
		c.queue = nil
		return checkInterval
	}
	all := c.Standing.NetworkPolicies()
	if now.Before(c.rest.until) && model.SameSlice(desired.Companions, c.rest.companions) && model.SameSlice(all, c.rest.standing) {
		c.publish(desired.Policies, nil)
		return c.rest.until.Sub(now)
	}
	c.round++
	x := &comparison{
		Controller: c, now: now, worse: map[string]State{}, policies: desired.Policies, standing: map[types.NamespacedName]*networkingv1.NetworkPolicy{},
		missing: map[string][]*networkingv1.NetworkPolicy{}, tasks: map[string]*task{}, counts: map[Phase]int{}, next: now.Add(checkInterval),
	}
	x.find(all)
	wanted := 0
	for i := range desired.Companions {
		if !desired.Companions[i].DryRun {
			x.companion(wanted, &desired.Companions[i])
			wanted++
		}
	}
	c.wanted = c.wanted[:wanted]
	for i, np := range all {
		r := c.stood[i]
		if r == nil {
			r = c.records[nameOf(np)] // one that was just made
		}
		if (r == nil || r.wanted != c.round) && orphan(np) {
			x.orphan(nameOf(np), np)
			wanted++
		}
	}
	if len(c.records) > wanted {
		c.forget()
	}
	c.queue = x.queued()
	c.rest = rest{}
	if len(x.worse) == 0 && len(c.queue) == 0 && len(c.busy) == 0 {
		c.rest = rest{x.next, desired.Companions, all}
	}
	c.publish(x.policies, x.worse)
	c.Metrics.counted(x.counts)
	return max(minInterval, x.next.Sub(now))
}

// find notes with each record what stands under its name, and in stood the records of what stands. Most objects have one, so that a comparison fills no map with all of them.
func (x *comparison) find(all []*networkingv1.NetworkPolicy) {
	x.stood = slices.Grow(x.stood[:0], len(all))[:len(all)]
	for i, np := range all {
		r := x.stood[i]
		if r == nil || r.name != nameOf(np) {
			r = x.records[nameOf(np)]
			x.stood[i] = r
		}
		if r != nil {
			r.found, r.seen = np, x.round
		} else {
			x.standing[nameOf(np)] = np
		}
	}
}

// at is what stands under a record's name; nil where nothing does.
func (x *comparison) at(name types.NamespacedName, r *record) *networkingv1.NetworkPolicy {
	if r.seen == x.round {
		return r.found
	}
	return x.standing[name]
}

func nameOf(np *networkingv1.NetworkPolicy) types.NamespacedName {
	return types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
}

func (c *Controller) record(name types.NamespacedName) *record {
	r := c.records[name]
	if r == nil {
		r = &record{name: name}
		c.records[name] = r
	}
	return r
}

// forget drops the records of what neither is desired nor was.
func (c *Controller) forget() {
	for name, r := range c.records {
		if r.wanted != c.round {
			delete(c.records, name)
			r.name = types.NamespacedName{} // so that it is found nowhere any more
		}
	}
}

// companion compares one that is desired, the i-th of all.
func (x *comparison) companion(i int, d *netpol.Companion) {
	name := nameOf(d.NetworkPolicy)
	if i == len(x.wanted) {
		x.wanted = append(x.wanted, nil)
	}
	r := x.wanted[i]
	if r == nil || r.name != name {
		r = x.record(name)
		x.wanted[i] = r
	}
	r.wanted = x.round
	np := x.at(name, r)
	if !r.knows(d.NetworkPolicy, np) {
		r.look(x.policy(d.Policy), d.NetworkPolicy, np, x.now)
	}
	equal := r.equal
	mine := np != nil && (equal || ours(np, d) || r.uid != "" && np.UID == r.uid)
	if mine {
		r.uid = np.UID
	}
	if np == nil || !mine || np.DeletionTimestamp != nil || !equal && !sameReach(d.NetworkPolicy, np) {
		x.missing[name.Namespace] = append(x.missing[name.Namespace], d.NetworkPolicy)
	}
	r.orphaned = time.Time{}
	switch {
	case equal && np.DeletionTimestamp == nil:
		r.told = ""
		x.counts[Stands]++
		return
	case equal: // it is made anew when it is gone
		x.pending(d.Policy.UID, name.Name, r)
		return
	case np != nil && !mine:
		x.found(d.Policy.UID, State{Phase: Foreign, Object: name.Name, Message: "somebody else's NetworkPolicy has the name of a companion: rename or delete it"})
		if r.told != string(np.UID) {
			r.told = string(np.UID)
			x.Logger.Warn("somebody else's NetworkPolicy has the name of a companion: it is left alone, and the policy is not enforced by the kernel until it is renamed or deleted",
				"networkpolicy", name.String(), "policy", d.Policy.Namespace+"/"+d.Policy.Name)
		}
		return
	}
	x.pending(d.Policy.UID, name.Name, r)
	policy := x.policy(d.Policy)
	x.add(policy, r, &action{name: name, policy: policy, desired: d.NetworkPolicy, standing: np, isolates: d.Isolates(), repair: r.stood})
}

// orphan looks at a companion that is not desired any more. While something desired that may select the same pods does not stand, it stays: without it they might be
// open, which neither what was nor what will be allows.
func (x *comparison) orphan(name types.NamespacedName, np *networkingv1.NetworkPolicy) {
	r := x.record(name)
	r.wanted = x.round
	if !r.knows(nil, np) {
		r.look(model.PolicyRef{}, nil, np, x.now)
	}
	uid, _ := builtFrom(np)
	policy := model.PolicyRef{Namespace: np.Namespace, Name: np.Labels[netpol.LabelPolicy], UID: uid}
	if o := owner(np); o != nil {
		policy.Name, policy.UID = o.Name, string(o.UID)
	}
	known := x.policy(policy)
	if r.orphaned.IsZero() {
		r.orphaned = x.now
	}
	if known.Generation == 0 && owner(np) != nil {
		r.next = maxTime(r.next, r.orphaned.Add(graceTime))
	}
	x.pending(known.UID, name.Name, r)
	if np.DeletionTimestamp != nil || slices.ContainsFunc(x.missing[np.Namespace], func(m *networkingv1.NetworkPolicy) bool { return mayShare(m, np) }) {
		return
	}
	x.add(known, r, &action{name: name, policy: known, standing: np})
}

// policy is a policy as the view has it; as it is given, of no generation, where the view does not know its UID. Most comparisons find nothing new and do not ask.
func (x *comparison) policy(p model.PolicyRef) model.PolicyRef {
	if x.byUID == nil {
		x.byUID = make(map[string]int, len(x.policies))
		for i := range x.policies {
			x.byUID[x.policies[i].UID] = i
		}
	}
	if i, known := x.byUID[p.UID]; known {
		return x.policies[i].PolicyRef
	}
	return p
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (x *comparison) pending(uid, object string, r *record) {
	if r.failure.message != "" && !r.failure.conflict {
		x.found(uid, State{Phase: Failed, Object: object, Message: r.failure.message})
		return
	}
	x.found(uid, State{Phase: Pending, Object: object})
}

func (x *comparison) found(uid string, s State) {
	x.counts[s.Phase]++
	worsen(x.worse, uid, s)
}

// add puts a write into its policy's task, or notes when it is due.
func (x *comparison) add(p model.PolicyRef, r *record, a *action) {
	if r.next.After(x.now) {
		if r.next.Before(x.next) {
			x.next = r.next
		}
		return
	}
	key := p.Namespace + "/" + p.Name
	if x.busy[key] {
		return // compared again when its worker is done
	}
	if x.tasks[key] == nil {
		x.tasks[key] = &task{policy: key}
	}
	x.tasks[key].actions = append(x.tasks[key].actions, a)
	if r.failure.message != "" {
		x.tasks[key].failed = max(x.tasks[key].failed, r.attempts)
	}
}

// queued are the tasks: in each, writes before deletions, and what isolates before what allows; last the policies that were tried in vain, so that they take no worker from
// the others.
func (x *comparison) queued() []*task {
	out := make([]*task, 0, len(x.tasks))
	for _, t := range x.tasks {
		slices.SortFunc(t.actions, func(a, b *action) int {
			return cmp.Or(cmp.Compare(a.rank(), b.rank()), strings.Compare(a.name.Name, b.name.Name))
		})
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *task) int {
		return cmp.Or(cmp.Compare(a.failed, b.failed), strings.Compare(a.policy, b.policy))
	})
	return out
}

func (a *action) rank() int {
	switch {
	case a.desired == nil:
		return 2
	case a.isolates:
		return 0
	}
	return 1
}

// settle takes over what a worker did.
func (c *Controller) settle(t *task, now time.Time) {
	for _, a := range t.actions {
		r := c.record(a.name)
		if a.skipped {
			continue
		}
		r.attempted(a.outcome, now)
		c.Metrics.wrote(a)
		c.tell(a, r)
	}
}

// tell logs a write, and a failure once until another comes.
func (c *Controller) tell(a *action, r *record) {
	log := c.Logger.With("networkpolicy", a.name.String(), "policy", a.policy.Namespace+"/"+a.policy.Name, "generation", a.policy.Generation)
	switch {
	case a.outcome.conflict:
		log.Debug("a companion changed before it could be written: it is compared again", "error", a.outcome.message)
	case a.outcome.message != "" && r.told != a.outcome.message:
		r.told = a.outcome.message
		log.Error("a companion could not be written: what stands stays as it is, and it is tried again", "error", a.outcome.message)
	case a.outcome.message != "":
	case a.desired == nil:
		log.Info("a companion that is no longer wanted was deleted")
	case a.repair:
		log.Warn("a companion was changed or deleted by somebody else: it was put back")
	default:
		log.Info("a companion was applied")
	}
}
