package status

import (
	"slices"
	"strings"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Slot is one slot of a proxy.
type Slot struct {
	Desired []model.PolicyRef // that its present content was built from
	Running []model.PolicyRef // that the content was built from that the proxy runs, or ran as it was connected last
	Current bool              // the proxy runs the present content
	Refused string            // its words, where it refused the present content
}

// OverSlots is how policies stand at a proxy with some slots.
func OverSlots(slots []Slot) []Standing {
	n := 0
	for i := range slots {
		n += len(slots[i].Desired)
	}
	all := make([]Standing, 0, n)
	for i := range slots {
		s := &slots[i]
		for _, ref := range s.Desired {
			all = append(all, Standing{Policy: ref.UID, Running: generationIn(s.Running, ref.UID), Current: s.Current, Refused: s.Refused})
		}
	}
	slices.SortStableFunc(all, func(a, b Standing) int { return strings.Compare(a.Policy, b.Policy) })
	n = 0
	for _, is := range all {
		if n == 0 || all[n-1].Policy != is.Policy {
			all[n] = is
			n++
			continue
		}
		was := &all[n-1]
		was.Running, was.Current = min(was.Running, is.Running), was.Current && is.Current
		if was.Refused == "" {
			was.Refused = is.Refused
		}
	}
	if n == len(all) {
		return all
	}
	return slices.Clone(all[:n]) // it is kept
}

func generationIn(refs []model.PolicyRef, uid string) int64 {
	for i := range refs {
		if refs[i].UID == uid {
			return refs[i].Generation
		}
	}
	return 0
}

// of is how a policy stands; the zero value where nothing is known of it.
func (p *Proxy) of(policyUID string) Standing {
	if i, found := slices.BinarySearchFunc(p.Policies, policyUID, func(s Standing, uid string) int { return strings.Compare(s.Policy, uid) }); found {
		return p.Policies[i]
	}
	return Standing{}
}

// LostAt is the proxy as it was, but not connected any more.
func (p *Proxy) LostAt(now time.Time) *Proxy {
	out := *p
	out.Connected, out.Since, out.Gone = false, now, false
	return &out
}

// current says whether the proxy runs all that it should.
func (p *Proxy) current() bool {
	return p.Connected && !slices.ContainsFunc(p.Policies, func(s Standing) bool { return !s.Current })
}
