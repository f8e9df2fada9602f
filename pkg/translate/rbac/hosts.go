package rbac

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// hostTail is what may follow a name in an authority that the guard let through.
	hostTail = `\.?(?::[0-9]*)?`
	// oddHost is an authority that is not in lower case, which clients send.
	oddHost = `\C*[A-Z]\C*`
	// hostTailProgram is what the expressions around a name add to its program.
	hostTailProgram = 16
)

// host compares without case, port and trailing dot. The authority itself is left as it was sent, since applications see it.
func (in *inputs) host(h model.Host) (pattern, error) {
	names := []string{authorityForm(h.Name)}
	if !h.Wildcard {
		for _, a := range h.Aliases {
			names = append(names, authorityForm(a))
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	exprs := make([]expr, 0, len(names))
	for _, n := range names {
		switch {
		case n == "" || !validText(n):
			return pattern{}, errNotText
		case 2*len(n)+hostTailProgram > maxProgram:
			return pattern{}, errTooLarge
		}
		text := quote(n) + hostTail
		if h.Wildcard {
			text = `\C+\.` + text
		}
		exprs = append(exprs, expr{text: "(?i:" + text + ")", program: 2*len(n) + hostTailProgram})
	}
	var out pattern
	if len(exprs) == 1 {
		out.expr = exprs[0]
	} else {
		out.predicate = anyOf(anyExpression(in.authority, exprs)...)
	}
	if h.Wildcard {
		out.suffix = backwards(names[0])
	} else {
		out.keys, out.values = shortest(names), shortest(names)
	}
	return out, nil
}

func backwards(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// authorityForm is a name in lower case, an IPv6 address in brackets.
func authorityForm(name string) string {
	if a, err := netip.ParseAddr(name); err == nil && a.Is6() {
		return "[" + strings.ToLower(name) + "]"
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}

// shortest leaves out every name that begins with another one: a prefix map finds those under the shorter.
func shortest(sorted []string) []string {
	var out []string
	for _, n := range sorted {
		if len(out) == 0 || !strings.HasPrefix(n, out[len(out)-1]) {
			out = append(out, n)
		}
	}
	return out
}
