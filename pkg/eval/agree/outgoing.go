package agree

import (
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// outgoing are those of a set whom NetworkPolicies isolate as callers, the same pointer while that is the same.
type outgoing struct{ callers []isolatedCaller }

// isolatedCaller is one of them.
type isolatedCaller struct {
	*caller
	objects []*kernel.Policy
	egress  []*model.Policy
	known   *addresses
}

// followOutgoing finds, for the peers that name pods, who of them is isolated as a caller.
func (x *Checker) followOutgoing() {
	anybody := slices.ContainsFunc(x.order, func(c *caller) bool { return len(c.objectsOut) > 0 })
	for _, p := range x.policies {
		for _, s := range p.picks {
			if s.followed == x.checks {
				continue
			}
			s.followed = x.checks
			if anybody {
				s.follow()
			} else {
				s.outgoing = nil
			}
		}
	}
}

func (s *set) follow() {
	var now []isolatedCaller
	for _, c := range s.callers {
		if len(c.objectsOut) > 0 {
			now = append(now, isolatedCaller{c, c.objectsOut, c.egress, c.addresses})
		}
	}
	switch {
	case len(now) == 0:
		s.outgoing = nil
	case s.outgoing == nil || !slices.EqualFunc(s.outgoing.callers, now, isolatedCaller.same):
		for i := range now { // a caller's lists are filled anew with each check
			now[i].objects, now[i].egress = slices.Clone(now[i].objects), slices.Clone(now[i].egress)
		}
		s.outgoing = &outgoing{now}
	}
}

func (a isolatedCaller) same(b isolatedCaller) bool {
	return a.caller == b.caller && a.known == b.known && slices.Equal(a.objects, b.objects) && slices.Equal(a.egress, b.egress)
}
