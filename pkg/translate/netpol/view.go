package netpol

import (
	"reflect"
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// view is what of a selection decides at L3/4.
type view struct {
	of   *model.Selection
	seen *model.Selection
}

// viewed returns the views of selections, both in the order of their policies. What an edit leaves as it was at L3/4 is the very same as in the round before, so that
// nothing is built for it.
func (x *Builder) viewed(selections []*model.Selection) []*model.Selection {
	known := x.views
	views, out := make([]view, 0, len(selections)), make([]*model.Selection, 0, len(selections))
	for _, s := range selections {
		for len(known) > 0 && known[0].of != s && known[0].of.Compare(&s.PolicyRef) < 0 {
			known = known[1:]
		}
		v := view{of: s}
		switch {
		case len(known) > 0 && known[0].of == s:
			v = known[0]
		case len(known) > 0 && known[0].of.Compare(&s.PolicyRef) == 0:
			v.seen = seenLike(s, known[0].seen)
		default:
			v.seen = &model.Selection{Policy: atL4(s.Policy), Workloads: s.Workloads}
		}
		views, out = append(views, v), append(out, v.seen)
	}
	x.views = views
	return out
}

// seenLike is a selection's view, which is the old one as far as it says the same.
func seenLike(s, old *model.Selection) *model.Selection {
	p := atL4(s.Policy)
	if reflect.DeepEqual(p, old.Policy) {
		p = old.Policy
	}
	if p == old.Policy && slices.Equal(s.Workloads, old.Workloads) {
		return old
	}
	return &model.Selection{Policy: p, Workloads: s.Workloads}
}

// atL4 is a policy without what no companion says: of requests, that there is something said; and no generation.
func atL4(p *model.Policy) *model.Policy {
	out := *p
	out.Generation, out.Accepted, out.Guarded = 0, false, false
	out.Ingress, out.Egress = rulesAtL4(p.Ingress), rulesAtL4(p.Egress)
	return &out
}

func rulesAtL4(rules []model.Rule) []model.Rule {
	out := slices.Clone(rules)
	for i := range out {
		out[i].Name = ""
		if out[i].HTTP != nil {
			out[i].HTTP = []model.HTTPMatch{}
		}
	}
	return out
}
