package lint

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// manyRules is how many rules one workload may have in one direction for rules to be compared with each other.
const manyRules = 400

// fate is what becomes of a rule over all regions that it is in.
type fate struct {
	matches  bool // it matches something in some region
	open     bool // in some region something that it allows is not refused by a Deny
	denies   map[*rule]bool
	repeated map[*rule]bool // rules that say as much in every region so far; nil before the first
}

// regions finds rules of which a Deny leaves nothing, and rules that another rule repeats. What matters is whom the peers mean now, which ports the workloads have now,
// and every request that there can be.
func (l *linter) regions() {
	fates := map[*rule]*fate{}
	for _, g := range l.distinctRegions() {
		for _, r := range g.rules {
			if fates[r] == nil {
				fates[r] = &fate{denies: map[*rule]bool{}}
			}
			l.note(g, r, fates[r])
		}
	}
	for _, p := range l.policies {
		for _, r := range l.rules[p] {
			if f := fates[r]; f != nil && f.matches {
				l.reportFate(r, f, fates)
			}
		}
	}
}

// distinctRegions are the regions of all workloads, each once.
func (l *linter) distinctRegions() []*region {
	var out []*region
	for _, d := range []model.Direction{model.Ingress, model.Egress} {
		governing := map[*model.Workload][]*model.Policy{}
		for _, p := range l.policies {
			if !p.Governs(d) {
				continue
			}
			for _, w := range l.selected[p] {
				governing[w] = append(governing[w], p)
			}
		}
		seen := map[string]bool{}
		for _, w := range l.ix.Workloads {
			if len(governing[w]) == 0 || w.HostNetwork { // no layer stands before the host's network
				continue
			}
			if key := l.regionKey(d, w, governing[w]); !seen[key] {
				seen[key] = true
				out = append(out, newRegion(d, w, l.rulesOf(governing[w], d)))
			}
		}
	}
	return out
}

// rulesOf are the rules of some policies in a direction that any request can satisfy.
func (l *linter) rulesOf(policies []*model.Policy, d model.Direction) []*rule {
	var out []*rule
	for _, p := range policies {
		for _, r := range l.rules[p] {
			if r.direction == d && r.possible {
				out = append(out, r)
			}
		}
	}
	return out
}

// note notes a rule's fate in one region.
func (l *linter) note(g *region, r *rule, f *fate) {
	classes := g.classesOf(r)
	addresses := g.addressesOf(r)
	if len(classes) == 0 || r.possibly.empty() && len(addresses) == 0 {
		return
	}
	f.matches = true
	if !r.isDeny() && !f.open {
		f.open = l.leavesSomething(g, r, classes, addresses, f.denies)
	}
	same := map[*rule]bool{}
	if len(g.rules) <= manyRules && !r.policy.DryRun {
		for _, other := range g.rules {
			if other != r && (f.repeated == nil || f.repeated[other]) && l.repeats(g, r, other, classes, addresses) {
				same[other] = true
			}
		}
	}
	f.repeated = same
}

// classesOf are the ports on which a rule matches anything.
func (g *region) classesOf(r *rule) []portClass {
	spans := g.mayMean(r)
	return slices.DeleteFunc(slices.Clone(g.ports), func(p portClass) bool {
		meant := slices.ContainsFunc(spans, func(s span) bool { return s.has(p) })
		return !meant || !r.isDeny() && r.HTTP != nil && (!p.http || p.unseen)
	})
}

func (g *region) addressesOf(r *rule) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(g.addresses), func(a netip.Addr) bool { return !r.meansAddress(a) })
}

// leavesSomething says whether something that an Allow's rule matches is refused by no Deny, and otherwise notes the Denies.
func (l *linter) leavesSomething(g *region, r *rule, classes []portClass, addresses []netip.Addr, denies map[*rule]bool) bool {
	for _, p := range classes {
		var deniers []*rule
		for _, d := range g.rules {
			if d.isDeny() && !d.policy.DryRun && slices.ContainsFunc(g.spans(d), func(s span) bool { return s.has(p) }) {
				deniers = append(deniers, d)
			}
		}
		if len(deniers) == 0 {
			return true
		}
		asked := map[string]bool{}
		open := func(means func(d *rule) bool) bool {
			var applicable []*rule
			key := make([]byte, len(deniers))
			for i, d := range deniers {
				if means(d) {
					applicable = append(applicable, d)
					key[i] = 1
				}
			}
			if asked[string(key)] {
				return false
			}
			asked[string(key)] = true
			return l.open(p, r, applicable, denies)
		}
		for _, a := range addresses {
			if open(func(d *rule) bool { return d.meansAddress(a) }) {
				return true
			}
		}
		for i := range l.ix.Workloads {
			if r.possibly.has(i) && open(func(d *rule) bool { return d.surely.has(i) }) {
				return true
			}
		}
	}
	return false
}

// open says whether some request that a rule allows on a port is refused by none of the Denies that mean its caller.
func (l *linter) open(p portClass, r *rule, denies []*rule, noted map[*rule]bool) bool {
	for _, d := range denies {
		if d.HTTP == nil || p.protocol == model.TCP && !p.http && !p.unseen {
			noted[d] = true
			return false
		}
	}
	if len(denies) == 0 || !p.http || p.unseen {
		return true
	}
	key := coverKey{inner: r}
	var outer []terms
	for _, d := range denies {
		key.outer += d.place() + " "
		outer = append(outer, terms{model.Deny, d.HTTP})
	}
	covered, known := l.covered[key]
	if !known {
		covered = l.covers(terms{model.Allow, r.HTTP}, outer...)
		l.covered[key] = covered
	}
	for _, d := range denies {
		noted[d] = noted[d] || covered
	}
	return !covered
}

// repeats says whether another rule of the same action matches all that a rule matches in a region.
func (l *linter) repeats(g *region, r, other *rule, classes []portClass, addresses []netip.Addr) bool {
	if other.policy.Action != r.policy.Action || other.policy.DryRun || !r.possibly.within(other.surely) {
		return false
	}
	if r.HTTP == nil && other.HTTP != nil {
		return false // the rule holds at L3/4, too
	}
	for _, a := range addresses {
		if !other.meansAddress(a) {
			return false
		}
	}
	spans := g.spans(other)
	http := false
	for _, p := range classes {
		if !slices.ContainsFunc(spans, func(s span) bool { return s.has(p) }) {
			return false
		}
		http = http || other.HTTP != nil && p.http && !p.unseen
	}
	if !http {
		return true
	}
	key := coverKey{inner: r, outer: "same " + other.place()}
	covered, known := l.covered[key]
	if !known {
		covered = l.covers(terms{r.policy.Action, r.HTTP}, terms{r.policy.Action, other.HTTP})
		l.covered[key] = covered
	}
	return covered
}

func (l *linter) reportFate(r *rule, f *fate, fates map[*rule]*fate) {
	if !r.isDeny() && !f.open {
		d := r.finding("rule-shadowed", model.SeverityWarning, r.field())
		d.Consequence = "everything that the rule allows is refused by " + ruleNames(f.denies) + ", and a Deny beats every Allow"
		d.Remedy = "remove the rule, or narrow the Deny"
		l.found.Add(d)
		return
	}
	// Of two rules that say the same the later one is told of.
	said := map[*rule]bool{}
	for other := range f.repeated {
		if back := fates[other]; !back.repeated[r] || other.before(r) {
			said[other] = true
		}
	}
	if len(said) == 0 {
		return
	}
	verb := "allows"
	if r.isDeny() {
		verb = "refuses"
	}
	d := r.finding("rule-subsumed", model.SeverityNotice, r.field())
	d.Consequence = ruleNames(said) + " " + verb + " everything that the rule does: without it nothing would change"
	d.Remedy = "remove the rule, or narrow the other one"
	l.found.Add(d)
}

// before says whether a rule stands before another.
func (r *rule) before(o *rule) bool {
	return cmp.Or(cmp.Compare(r.order, o.order), cmp.Compare(r.index, o.index)) < 0
}

// place tells a rule from others of the same direction.
func (r *rule) place() string { return strconv.Itoa(r.order) + "." + strconv.Itoa(r.index) }

// ruleNames names the first of some rules and counts the rest.
func ruleNames(rules map[*rule]bool) string {
	const named = 3
	var names []string
	for r, is := range rules {
		if is {
			names = append(names, r.name())
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	word := "rule "
	if len(names) > 1 {
		word = "rules "
	}
	if more := len(names) - named; more > 0 {
		return word + strings.Join(names[:named], ", ") + " and " + strconv.Itoa(more) + " more"
	}
	return word + strings.Join(names, ", ")
}
