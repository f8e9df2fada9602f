package envoy

import (
	"errors"
	"fmt"
	"strconv"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
)

// matcherEngine decides by a matcher. Where no action is found, the request is denied.
type matcherEngine struct {
	matcher *matcher
	place   string
}

func (e matcherEngine) decide(a *asked) Decision {
	found, state := e.matcher.match(a)
	switch {
	case state == unable:
		return Decision{Outcome: Insufficient}
	case found == nil:
		return Decision{Outcome: NoMatch}
	}
	a.way[0].Place = e.place + "." + a.way[0].Place
	return Decision{Allowed: found.verdict != rbacconfigv3.RBAC_DENY, Outcome: Decided, Name: found.name, Way: a.way}
}

// matcher is a list of conditions, a map of values, or nothing but what follows when nothing matches.
type matcher struct {
	entries   []entry
	tree      *tree
	onNoMatch *onMatch
}

type entry struct {
	place     string
	predicate predicate
	onMatch   *onMatch
}

// onMatch is an action or a further matcher.
type onMatch struct {
	action  *action
	matcher *matcher
}

type action struct {
	name    string
	verdict rbacconfigv3.RBAC_Action
}

// match finds the action for a request. What leads to no action is as if it had not matched: the search goes on behind it.
func (m *matcher) match(a *asked) (*action, answer) {
	for i := range m.entries {
		e := &m.entries[i]
		holds := e.predicate.holds(a)
		if holds == yes {
			var found *action
			if found, holds = e.onMatch.follow(a, e.place, e.predicate); holds == yes {
				return found, yes
			}
		}
		if holds == unable {
			return nil, unable
		}
	}
	if m.tree != nil {
		if found, state := m.tree.match(a); state != no {
			return found, state
		}
	}
	return m.onNoMatch.follow(a, "on_no_match", nothingMatched{})
}

// follow goes on to what an onMatch says, and notes the step if that leads to an action.
func (o *onMatch) follow(a *asked, place string, why fmt.Stringer) (*action, answer) {
	if o == nil {
		return nil, no
	}
	a.way = append(a.way, Step{})
	mine := len(a.way) - 1
	found, state := o.action, yes
	if o.matcher != nil {
		found, state = o.matcher.match(a)
	}
	if state != yes {
		a.way = a.way[:mine]
		return nil, state
	}
	a.way[mine] = Step{Place: place, Text: why.String()}
	return found, yes
}

type nothingMatched struct{}

func (nothingMatched) String() string { return "nothing before matches" }

// tree looks a value up.
type tree struct {
	input   input
	entries map[string]*onMatch
	prefix  bool
	longest int
}

// found says why an entry of a tree was taken.
type found struct {
	tree *tree
	key  string
}

func (f found) String() string {
	if f.tree.prefix {
		return f.tree.input.String() + " begins with " + strconv.Quote(f.key)
	}
	return f.tree.input.String() + " is " + strconv.Quote(f.key)
}

func (t *tree) match(a *asked) (*action, answer) {
	value, state := t.input.get(a)
	switch {
	case state != yes:
		return nil, state
	case !t.prefix:
		return t.follow(a, value, "exact_match_map")
	}
	for n := min(len(value), t.longest); n >= 0; n-- {
		if found, state := t.follow(a, value[:n], "prefix_match_map"); state != no {
			return found, state
		}
	}
	return nil, no
}

func (t *tree) follow(a *asked, key, kind string) (*action, answer) {
	o := t.entries[key]
	if o == nil {
		return nil, no
	}
	return o.follow(a, "matcher_tree."+kind+"["+strconv.Quote(key)+"]", found{t, key})
}

func (c *compiler) matcher(m *xdsmatcherv3.Matcher) (*matcher, error) {
	out := &matcher{}
	var err error
	if out.onNoMatch, err = c.onMatch(m.GetOnNoMatch()); err != nil {
		return nil, fmt.Errorf("on_no_match.%w", err)
	}
	switch t := m.GetMatcherType().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_:
		for i, f := range t.MatcherList.GetMatchers() {
			e := entry{place: "matcher_list.matchers[" + strconv.Itoa(i) + "]"}
			if e.predicate, err = c.predicate(f.GetPredicate()); err == nil {
				e.onMatch, err = c.onMatch(f.GetOnMatch())
			}
			if err != nil {
				return nil, fmt.Errorf("%s.%w", e.place, err)
			}
			out.entries = append(out.entries, e)
		}
	case *xdsmatcherv3.Matcher_MatcherTree_:
		if out.tree, err = c.tree(t.MatcherTree); err != nil {
			return nil, fmt.Errorf("matcher_tree.%w", err)
		}
	}
	return out, nil
}

func (c *compiler) tree(m *xdsmatcherv3.Matcher_MatcherTree) (*tree, error) {
	in, err := c.input(m.GetInput())
	if err != nil {
		return nil, err
	}
	out := &tree{input: in, entries: map[string]*onMatch{}}
	entries := m.GetExactMatchMap().GetMap()
	switch t := m.GetTreeType().(type) {
	case *xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap:
		out.prefix, entries = true, t.PrefixMatchMap.GetMap()
	case *xdsmatcherv3.Matcher_MatcherTree_CustomMatch:
		// Whatever it looks at, it is not told what it makes of it.
		out.input = unknownInput("a matcher tree of type " + t.CustomMatch.GetTypedConfig().GetTypeUrl())
	}
	for key, o := range entries {
		if out.entries[key], err = c.onMatch(o); err != nil {
			return nil, fmt.Errorf("map[%q].%w", key, err)
		}
		out.longest = max(out.longest, len(key))
	}
	return out, nil
}

func (c *compiler) onMatch(m *xdsmatcherv3.Matcher_OnMatch) (*onMatch, error) {
	if m.GetKeepMatching() {
		return nil, errors.New("keep_matching: not supported in RBAC")
	}
	out := &onMatch{}
	var err error
	switch o := m.GetOnMatch().(type) {
	case nil:
		return nil, nil //nolint:nilnil // no onMatch is how a message says that nothing follows
	case *xdsmatcherv3.Matcher_OnMatch_Matcher:
		if out.matcher, err = c.matcher(o.Matcher); err != nil {
			return nil, fmt.Errorf("matcher.%w", err)
		}
	case *xdsmatcherv3.Matcher_OnMatch_Action:
		if out.action, err = readAction(o.Action); err != nil {
			return nil, fmt.Errorf("action: %w", err)
		}
	}
	return out, nil
}

func readAction(e *xdscorev3.TypedExtensionConfig) (*action, error) {
	m := &rbacconfigv3.Action{}
	if err := e.GetTypedConfig().UnmarshalTo(m); err != nil {
		return nil, fmt.Errorf("read the action: %w", err)
	}
	if err := m.ValidateAll(); err != nil {
		return nil, err
	}
	return &action{name: m.GetName(), verdict: m.GetAction()}, nil
}
