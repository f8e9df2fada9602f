package envoy

import (
	"fmt"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// header is a condition of rules on one header. It holds when any of the header's values satisfies it, each line being a value; its inversion when none does. Of an absent header neither
// holds, unless it counts as empty.
type header struct {
	name    string // in lower case
	value   value  // nil: whether it is present
	present bool
	invert  bool
	empty   bool // an absent header is one with an empty value
}

func (c *compiler) header(m *routev3.HeaderMatcher) (predicate, error) {
	if c.connection {
		return nil, fmt.Errorf("header %q, in the filter of a TCP chain", m.GetName())
	}
	h := header{name: strings.ToLower(m.GetName()), invert: m.GetInvertMatch(), empty: m.GetTreatMissingHeaderAsEmpty()}
	var p pattern
	switch s := m.GetHeaderMatchSpecifier().(type) {
	case nil:
		h.present = true
		return h, nil
	case *routev3.HeaderMatcher_PresentMatch:
		h.present = s.PresentMatch
		return h, nil
	case *routev3.HeaderMatcher_RangeMatch:
		h.value = numbers{s.RangeMatch.GetStart(), s.RangeMatch.GetEnd()}
		return h, nil
	case *routev3.HeaderMatcher_StringMatch:
		p = fromEnvoy(s.StringMatch)
	case *routev3.HeaderMatcher_ExactMatch:
		p = pattern{kind: patternExact, text: s.ExactMatch} //nolint:staticcheck // proxies may run it
	case *routev3.HeaderMatcher_PrefixMatch:
		p = pattern{kind: patternPrefix, text: s.PrefixMatch} //nolint:staticcheck // proxies may run it
	case *routev3.HeaderMatcher_SuffixMatch:
		p = pattern{kind: patternSuffix, text: s.SuffixMatch} //nolint:staticcheck // proxies may run it
	case *routev3.HeaderMatcher_ContainsMatch:
		p = pattern{kind: patternContains, text: s.ContainsMatch} //nolint:staticcheck // proxies may run it
	case *routev3.HeaderMatcher_SafeRegexMatch:
		p = pattern{kind: patternRegex, text: s.SafeRegexMatch.GetRegex()} //nolint:staticcheck // proxies may run it
	default:
		return unknown(fmt.Sprintf("a header matcher of type %T", s)), nil
	}
	var err error
	if h.value, err = c.value(p); err != nil {
		return nil, fmt.Errorf("header %q: %w", h.name, err)
	}
	return h, nil
}

func (h header) String() string {
	out := "header " + h.name + " is present"
	if h.value != nil {
		out = "a value of header " + h.name + " " + h.value.String()
	}
	if h.invert || h.value == nil && !h.present {
		return "not (" + out + ")"
	}
	return out
}

func (h header) holds(a *asked) answer {
	a.looks++
	var values []string
	if a.request.HTTP != nil {
		values = headerValues(a.request.HTTP, h.name)
	}
	if h.value == nil {
		present := values != nil || h.empty
		return answerOf((present == h.present) != h.invert)
	}
	if values == nil {
		if !h.empty {
			return no
		}
		values = []string{""}
	}
	for _, v := range values {
		switch h.value.matches(a, v) {
		case unable:
			return unable
		case yes:
			return answerOf(!h.invert)
		case no:
		}
	}
	return answerOf(h.invert)
}

// numbers holds of decimal numbers from the first up to, and without, the last.
type numbers struct{ from, end int64 }

func (n numbers) String() string { return fmt.Sprintf("is a number in %d-%d", n.from, n.end-1) }

func (n numbers) matches(_ *asked, s string) answer {
	v, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return answerOf(err == nil && n.from <= v && v < n.end)
}

// urlPath is a condition of rules on the path without query and fragment, and without the parameters of segments where the route configuration says so.
type urlPath struct{ value value }

func (c *compiler) urlPath(m *matcherv3.PathMatcher) (predicate, error) {
	v, err := c.value(fromEnvoy(m.GetPath()))
	if err != nil {
		return nil, fmt.Errorf("url_path.path.%w", err)
	}
	return urlPath{v}, nil
}

func (p urlPath) String() string { return "the path " + p.value.String() }

func (p urlPath) holds(a *asked) answer {
	a.looks++
	if a.request.HTTP == nil {
		return no
	}
	path := a.request.HTTP.Path
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if a.request.PlainSegments {
		path = withoutParameters(path)
	}
	return p.value.matches(a, path)
}

// withoutParameters takes from every segment what follows its first semicolon.
func withoutParameters(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}
