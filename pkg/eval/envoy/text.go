package envoy

import (
	"errors"
	"strconv"
	"strings"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// pattern is what the string matchers of both APIs say.
type pattern struct {
	kind   patternKind
	text   string
	folded bool // ASCII letters of either case are one; expressions go by their own flags
}

type patternKind string

const (
	patternExact    patternKind = "is"
	patternPrefix   patternKind = "begins with"
	patternSuffix   patternKind = "ends with"
	patternContains patternKind = "contains"
	patternRegex    patternKind = "matches"
	patternCustom   patternKind = "custom"
	patternUnset    patternKind = "unset"
)

func fromXDS(m *xdsmatcherv3.StringMatcher) pattern {
	p := pattern{kind: patternUnset, folded: m.GetIgnoreCase()}
	switch s := m.GetMatchPattern().(type) {
	case *xdsmatcherv3.StringMatcher_Exact:
		p.kind, p.text = patternExact, s.Exact
	case *xdsmatcherv3.StringMatcher_Prefix:
		p.kind, p.text = patternPrefix, s.Prefix
	case *xdsmatcherv3.StringMatcher_Suffix:
		p.kind, p.text = patternSuffix, s.Suffix
	case *xdsmatcherv3.StringMatcher_Contains:
		p.kind, p.text = patternContains, s.Contains
	case *xdsmatcherv3.StringMatcher_SafeRegex:
		p.kind, p.text = patternRegex, s.SafeRegex.GetRegex()
	case *xdsmatcherv3.StringMatcher_Custom:
		p.kind, p.text = patternCustom, s.Custom.GetTypedConfig().GetTypeUrl()
	}
	return p
}

func fromEnvoy(m *matcherv3.StringMatcher) pattern {
	p := pattern{kind: patternUnset, folded: m.GetIgnoreCase()}
	switch s := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		p.kind, p.text = patternExact, s.Exact
	case *matcherv3.StringMatcher_Prefix:
		p.kind, p.text = patternPrefix, s.Prefix
	case *matcherv3.StringMatcher_Suffix:
		p.kind, p.text = patternSuffix, s.Suffix
	case *matcherv3.StringMatcher_Contains:
		p.kind, p.text = patternContains, s.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		p.kind, p.text = patternRegex, s.SafeRegex.GetRegex()
	case *matcherv3.StringMatcher_Custom:
		p.kind, p.text = patternCustom, s.Custom.GetTypedConfig().GetTypeUrl()
	}
	return p
}

func (c *compiler) value(p pattern) (value, error) {
	switch p.kind {
	case patternUnset:
		return nil, errors.New("match_pattern: unset")
	case patternCustom:
		return unknownValue("a string matcher of type " + p.text), nil
	case patternRegex:
		if p.folded {
			return nil, errors.New("ignore_case beside safe_regex")
		}
		return c.expression(p.text)
	case patternExact, patternPrefix, patternSuffix, patternContains:
	}
	if p.folded {
		p.text = asciiLower(p.text)
	}
	return literal(p), nil
}

// literal compares bytes.
type literal pattern

func (l literal) String() string {
	out := string(l.kind) + " " + strconv.Quote(l.text)
	if l.folded {
		out += " in any case"
	}
	return out
}

func (l literal) matches(_ *asked, s string) answer {
	if l.folded {
		s = asciiLower(s)
	}
	switch l.kind {
	case patternPrefix:
		return answerOf(strings.HasPrefix(s, l.text))
	case patternSuffix:
		return answerOf(strings.HasSuffix(s, l.text))
	case patternContains:
		return answerOf(strings.Contains(s, l.text))
	case patternExact, patternRegex, patternCustom, patternUnset:
	}
	return answerOf(s == l.text)
}

// asciiLower leaves all but A to Z alone, invalid UTF-8 too.
func asciiLower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if 'A' <= b[j] && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
