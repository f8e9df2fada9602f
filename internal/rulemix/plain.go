package rulemix

import (
	"fmt"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// Resolve replaces the peers of policies by their addresses, as rbac.Compile is given them.
func Resolve(ix *model.Index, policies []*model.Policy) []rbac.Policy {
	out := make([]rbac.Policy, 0, len(policies))
	for _, p := range policies {
		resolved := rbac.Policy{Ref: p.PolicyRef, Action: p.Action}
		for _, r := range p.Ingress {
			rule := rbac.Rule{Name: r.Name, Ports: r.Ports, HTTP: r.HTTP}
			if r.Peers != nil {
				rule.Sources = &rbac.Sources{}
			}
			for _, peer := range r.Peers {
				if peer.Block != nil {
					rule.Sources.Blocks = append(rule.Sources.Blocks, *peer.Block)
					continue
				}
				for _, w := range ix.PeerWorkloads(p.Namespace, peer) {
					rule.Sources.Addresses = append(rule.Sources.Addresses, w.Addresses...)
				}
			}
			resolved.Rules = append(resolved.Rules, rule)
		}
		out = append(out, resolved)
	}
	return out
}

// Plain writes policies as other meshes do: an Envoy RBAC filter with a list of rules for the denies, before one for the allows; a rule is a policy of
// its own, its http entries are permissions and its callers principals. socket is the port that stands for Port. What a list cannot compare, such as
// a path in another spelling, is left uncompared.
func Plain(policies []rbac.Policy, socket uint16) ([]*rbacv3.RBAC, error) {
	var out []*rbacv3.RBAC
	for _, action := range []model.Action{model.Deny, model.Allow} {
		rules := map[string]*rbacconfigv3.Policy{}
		for _, p := range policies {
			if p.Action != action {
				continue
			}
			for i, r := range p.Rules {
				built, err := plainRule(r, socket)
				if err != nil {
					return nil, err
				}
				rules[fmt.Sprintf("ns[%s]-policy[%s]-rule[%02d]", p.Ref.Namespace, p.Ref.Name, i)] = built
			}
		}
		verdict := rbacconfigv3.RBAC_ALLOW
		if action == model.Deny {
			verdict = rbacconfigv3.RBAC_DENY
		}
		if len(rules) > 0 {
			out = append(out, &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: verdict, Policies: rules}})
		}
	}
	return out, nil
}

func plainRule(r rbac.Rule, socket uint16) (*rbacconfigv3.Policy, error) {
	ports := plainPorts(r.Ports, socket)
	out := &rbacconfigv3.Policy{Principals: []*rbacconfigv3.Principal{plainSources(r.Sources)}}
	for _, m := range r.HTTP {
		permission, err := plainEntry(m, ports)
		if err != nil {
			return nil, err
		}
		out.Permissions = append(out.Permissions, permission)
	}
	switch {
	case r.HTTP != nil:
	case ports != nil:
		out.Permissions = []*rbacconfigv3.Permission{ports}
	default:
		out.Permissions = []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}}
	}
	return out, nil
}

// plainSources: a list compares with each range in turn.
func plainSources(s *rbac.Sources) *rbacconfigv3.Principal {
	if s == nil {
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Any{Any: true}}
	}
	prefixes := make([]netip.Prefix, 0, len(s.Addresses)+len(s.Blocks))
	for _, a := range s.Addresses {
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	for _, b := range s.Blocks {
		prefixes = append(prefixes, b.CIDR)
	}
	var ids []*rbacconfigv3.Principal
	for _, p := range prefixes {
		ids = append(ids, &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_DirectRemoteIp{
			DirectRemoteIp: &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))},
		}})
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_OrIds{OrIds: &rbacconfigv3.Principal_Set{Ids: ids}}}
}

func plainPorts(ports []model.PortRange, socket uint16) *rbacconfigv3.Permission {
	var all []*rbacconfigv3.Permission
	for _, p := range ports {
		switch {
		case p.From <= Port && Port <= p.To:
			all = append(all, &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_DestinationPort{DestinationPort: uint32(socket)}})
		default:
			all = append(all, &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_DestinationPort{DestinationPort: uint32(p.From)}})
		}
	}
	return anyPermission(all)
}

func anyPermission(all []*rbacconfigv3.Permission) *rbacconfigv3.Permission {
	if all == nil {
		return nil
	}
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_OrRules{OrRules: &rbacconfigv3.Permission_Set{Rules: all}}}
}

func plainEntry(m model.HTTPMatch, ports *rbacconfigv3.Permission) (*rbacconfigv3.Permission, error) {
	var all []*rbacconfigv3.Permission
	add := func(p *rbacconfigv3.Permission) {
		if p != nil {
			all = append(all, p)
		}
	}
	var hosts, methods, paths []*rbacconfigv3.Permission
	for _, h := range m.Hosts {
		value := plainText(model.Exact, h.Name)
		if h.Wildcard {
			value = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: "." + h.Name}}
		}
		value.IgnoreCase = true
		hosts = append(hosts, plainHeader(":authority", value))
	}
	for _, name := range m.Methods {
		methods = append(methods, plainHeader(":method", plainText(model.Exact, name)))
	}
	for _, p := range m.Paths {
		paths = append(paths, plainPath(plainText(p.Type, p.Value)))
		if p.Type == model.Prefix {
			paths[len(paths)-1] = plainPath(plainText(model.Prefix, strings.TrimSuffix(p.Value, "/")+"/"))
			paths = append(paths, plainPath(plainText(model.Exact, strings.TrimSuffix(p.Value, "/"))))
		}
	}
	add(anyPermission(hosts))
	add(anyPermission(methods))
	add(anyPermission(paths))
	add(ports)
	for _, h := range m.Headers {
		if h.Type != model.Exact && h.Type != model.Regex {
			return nil, fmt.Errorf("header %s: a plain list of %s is not written here", h.Name, h.Type)
		}
		add(plainHeader(h.Name, plainText(h.Type, h.Value)))
	}
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_AndRules{AndRules: &rbacconfigv3.Permission_Set{Rules: all}}}, nil
}

func plainPath(value *matcherv3.StringMatcher) *rbacconfigv3.Permission {
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_UrlPath{UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: value}}}}
}

func plainHeader(name string, value *matcherv3.StringMatcher) *rbacconfigv3.Permission {
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Header{Header: &routev3.HeaderMatcher{
		Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: value},
	}}}
}

func plainText(typ model.MatchType, value string) *matcherv3.StringMatcher {
	switch typ {
	case model.Prefix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: value}}
	case model.Regex:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: value}}}
	default:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}}
	}
}
