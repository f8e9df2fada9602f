package envoy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
)

// rules is the older form of a filter: policies with one action for all of them.
type rules struct {
	place    string
	action   rbacconfigv3.RBAC_Action
	policies []policy // by name
}

type policy struct {
	name                    string
	permissions, principals some
	condition               bool // an expression of the common expression language stands beside them
}

// decide goes by the first policy that matches, in the order of their names.
func (r *rules) decide(a *asked) Decision {
	out := Decision{Outcome: NoMatch}
	for _, p := range r.policies {
		if p.matches(a) {
			out = Decision{Outcome: Decided, Name: p.name, Way: []Step{{
				Place: r.place + ".policies[" + strconv.Quote(p.name) + "]", Text: p.permissions.String() + " and " + p.principals.String(),
			}}}
			break
		}
		if a.err != nil {
			break
		}
	}
	matched := out.Outcome == Decided
	switch r.action {
	case rbacconfigv3.RBAC_ALLOW:
		out.Allowed = matched
	case rbacconfigv3.RBAC_DENY:
		out.Allowed = !matched
	case rbacconfigv3.RBAC_LOG:
		out.Allowed = true
	}
	return out
}

func (p *policy) matches(a *asked) bool {
	if p.permissions.holds(a) != yes || p.principals.holds(a) != yes {
		return false
	}
	if p.condition {
		a.cannot("the condition of policy " + p.name)
		return false
	}
	return true
}

func (c *compiler) rules(m *rbacconfigv3.RBAC) (*rules, error) {
	out := &rules{action: m.GetAction()}
	for _, name := range slices.Sorted(maps.Keys(m.GetPolicies())) {
		written := m.GetPolicies()[name]
		p := policy{name: name, condition: written.GetCondition() != nil || written.GetCheckedCondition() != nil}
		var err error
		if p.permissions, err = list(written.GetPermissions(), c.permission); err == nil {
			p.principals, err = list(written.GetPrincipals(), c.principal)
		}
		if err != nil {
			return nil, fmt.Errorf("policies[%q].%w", name, err)
		}
		out.policies = append(out.policies, p)
	}
	return out, nil
}

// list reads every message of a list.
func list[M any](messages []M, read func(M) (predicate, error)) ([]predicate, error) {
	out := make([]predicate, 0, len(messages))
	for i, m := range messages {
		p, err := read(m)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (c *compiler) permission(m *rbacconfigv3.Permission) (predicate, error) {
	switch p := m.GetRule().(type) {
	case *rbacconfigv3.Permission_AndRules:
		ps, err := list(p.AndRules.GetRules(), c.permission)
		return every(ps), err
	case *rbacconfigv3.Permission_OrRules:
		ps, err := list(p.OrRules.GetRules(), c.permission)
		return some(ps), err
	case *rbacconfigv3.Permission_NotRule:
		inner, err := c.permission(p.NotRule)
		return negation{inner}, err
	case *rbacconfigv3.Permission_Any:
		return anything{}, nil
	case *rbacconfigv3.Permission_Header:
		return c.header(p.Header)
	case *rbacconfigv3.Permission_UrlPath:
		return c.urlPath(p.UrlPath)
	case *rbacconfigv3.Permission_DestinationPort:
		return ports{int64(p.DestinationPort), int64(p.DestinationPort) + 1}, nil
	case *rbacconfigv3.Permission_DestinationPortRange:
		r := ports{int64(p.DestinationPortRange.GetStart()), int64(p.DestinationPortRange.GetEnd())}
		return r, r.valid()
	case nil:
		return nil, errors.New("rule: unset")
	}
	return unknown(fmt.Sprintf("a permission of type %T", m.GetRule())), nil
}

func (c *compiler) principal(m *rbacconfigv3.Principal) (predicate, error) {
	switch p := m.GetIdentifier().(type) {
	case *rbacconfigv3.Principal_AndIds:
		ps, err := list(p.AndIds.GetIds(), c.principal)
		return every(ps), err
	case *rbacconfigv3.Principal_OrIds:
		ps, err := list(p.OrIds.GetIds(), c.principal)
		return some(ps), err
	case *rbacconfigv3.Principal_NotId:
		inner, err := c.principal(p.NotId)
		return negation{inner}, err
	case *rbacconfigv3.Principal_Any:
		return anything{}, nil
	case *rbacconfigv3.Principal_Header:
		return c.header(p.Header)
	case *rbacconfigv3.Principal_UrlPath:
		return c.urlPath(p.UrlPath)
	case *rbacconfigv3.Principal_DirectRemoteIp:
		r, err := prefix(p.DirectRemoteIp)
		return comparison{sourceInput{}, within{r}}, err
	case *rbacconfigv3.Principal_RemoteIp:
		r, err := prefix(p.RemoteIp)
		return comparison{remoteInput{}, within{r}}, err
	case *rbacconfigv3.Principal_Authenticated_:
		return c.authenticated(p.Authenticated)
	case nil:
		return nil, errors.New("identifier: unset")
	}
	return unknown(fmt.Sprintf("a principal of type %T", m.GetIdentifier())), nil
}

type anything struct{}

func (anything) String() string        { return "anything" }
func (anything) holds(_ *asked) answer { return yes }

// unknown gives the question up.
type unknown string

func (u unknown) String() string { return string(u) }

func (u unknown) holds(a *asked) answer { return a.cannot(string(u)) }

// ports is a range whose end is not in it.
type ports struct{ from, end int64 }

func (p ports) String() string {
	return fmt.Sprintf("the destination port is in %d-%d", p.from, p.end-1)
}

func (p ports) holds(a *asked) answer {
	a.looks++
	return answerOf(p.from <= int64(a.request.Port) && int64(a.request.Port) < p.end)
}

func (p ports) valid() error {
	const limit = 1 << 16
	if p.from < 0 || p.end > limit || p.from >= p.end {
		return fmt.Errorf("destination_port_range: from %d to %d", p.from, p.end)
	}
	return nil
}

// authenticated holds of a TLS connection, and of a name among those of its certificate: its URIs, its DNS names, or its subject. Of plaintext it never holds, and
// so its negation does.
type authenticated struct{ name value }

func (c *compiler) authenticated(m *rbacconfigv3.Principal_Authenticated) (predicate, error) {
	if m.GetPrincipalName() == nil {
		return authenticated{}, nil
	}
	v, err := c.value(fromEnvoy(m.GetPrincipalName()))
	if err != nil {
		return nil, fmt.Errorf("authenticated.principal_name.%w", err)
	}
	return authenticated{v}, nil
}

func (p authenticated) String() string {
	if p.name == nil {
		return "the caller is authenticated"
	}
	return "the caller's name " + p.name.String()
}

func (p authenticated) holds(a *asked) answer {
	a.looks++
	peer := a.request.TLS
	switch {
	case peer == nil:
		return no
	case p.name == nil:
		return yes
	}
	for _, name := range slices.Concat(peer.URIs, peer.DNS, []string{peer.Subject}) {
		if s := p.name.matches(a, name); s != no {
			return s
		}
	}
	return no
}
