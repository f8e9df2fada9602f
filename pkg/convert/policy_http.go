package convert

import (
	"net/netip"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// http converts request matches. A broken dimension of one belongs to a Deny here, and is left nil: any. An entry that is broken as a whole says
// nothing at all, not even that requests are meant and not bytes: the whole list is then nil.
func (c *policyConverter) http(field string, in []v1alpha1.HTTPMatch) []model.HTTPMatch {
	out := make([]model.HTTPMatch, 0, len(in))
	for i := range in {
		m, at := &in[i], index(field, i)
		if c.broken.at(at) {
			return nil
		}
		var match model.HTTPMatch
		if !c.broken.within(at + ".hosts") {
			match.Hosts = convertAll(m.Hosts, host)
		}
		if !c.broken.within(at + ".methods") {
			match.Methods = convertAll(m.Methods, func(s string) string { return s })
		}
		if !c.broken.within(at + ".paths") {
			match.Paths = convertAll(m.Paths, path)
		}
		if !c.broken.within(at + ".headers") {
			match.Headers = convertAll(m.Headers, header)
		}
		out = append(out, match)
	}
	return out
}

// convertAll converts a list; none stays nil: any.
func convertAll[In, Out any](in []In, convert func(In) Out) []Out {
	if len(in) == 0 {
		return nil
	}
	out := make([]Out, 0, len(in))
	for _, v := range in {
		out = append(out, convert(v))
	}
	return out
}

// host spells a host as requests are compared: in lower case, an IPv6 address in brackets and in its short form.
func host(s string) model.Host {
	name, wildcard := strings.CutPrefix(strings.ToLower(s), "*.")
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && a.Is6() {
		name = "[" + a.String() + "]"
	}
	return model.Host{Name: name, Wildcard: wildcard}
}

// path fills in the default type. The slash that ends a prefix says nothing, as in Gateway API: /a/ matches what /a does.
func path(p v1alpha1.PathMatch) model.PathMatch {
	switch p.Type {
	case v1alpha1.PathExact:
		return model.PathMatch{Type: model.Exact, Value: p.Value}
	case v1alpha1.PathRegularExpression:
		return model.PathMatch{Type: model.Regex, Value: validation.TrimAnchors(p.Value)}
	case v1alpha1.PathPrefix:
	}
	value := strings.TrimSuffix(p.Value, "/")
	if value == "" {
		value = "/"
	}
	return model.PathMatch{Type: model.Prefix, Value: value}
}

func header(h v1alpha1.HeaderMatch) model.HeaderMatch {
	t := h.Type
	if t == "" {
		t = v1alpha1.HeaderExact
	}
	value := h.Value
	if t == v1alpha1.HeaderRegularExpression || t == v1alpha1.HeaderNotRegularExpression {
		value = validation.TrimAnchors(value)
	}
	return model.HeaderMatch{Name: strings.ToLower(h.Name), Type: model.MatchType(t), Value: value}
}
