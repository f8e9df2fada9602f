package rulemix

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Mixes are the kinds of policies whose cost must not grow.
func Mixes() []Mix {
	return append(append(allows(), denies()...), spellings()...)
}

func allows() []Mix {
	return []Mix{
		{Name: "paths", Action: model.Allow, Rule: exact, Request: item},
		{Name: "paths-none", Action: model.Allow, Rule: exact, Request: nobody, NoRule: true},
		{Name: "prefixes", Action: model.Allow, Rule: prefix, Request: below},
		{Name: "hosts", Action: model.Allow, Rule: host, Request: hostOf},
		{Name: "wildcards", Action: model.Allow, Rule: wildcard, Request: func(i int) string { return get("/", fmt.Sprintf("x.h%d.shop.test", i), "") }},
		{Name: "headers", Action: model.Allow, Rule: header, Request: func(i int) string { return get("/", "cart", fmt.Sprintf("x-tenant: t%d\r\n", i)) }},
		{Name: "methods", Action: model.Allow, Rule: method, Request: func(i int) string {
			return methods()[i%len(methods())] + get(fmt.Sprintf("/api/v1/item%d/x", i/len(methods())), "cart", "content-length: 0\r\n")[len("GET"):]
		}},
		{Name: "peers-1", Action: model.Allow, Rule: peer, Request: nobody, From: address},
		{Name: "peers-100", Action: model.Allow, Callers: true, Rule: peers100, Request: below, From: inGroup},
		{Name: "peers-10000", Action: model.Allow, Callers: true, Rule: peers10000, Request: below, From: inGroup, Most: 1000},
		{Name: "peers-none", Action: model.Allow, Rule: peer, Request: nobody, NoRule: true},
		{Name: "mixed", Action: model.Allow, Callers: true, Rule: mixed, Request: orders, From: inGroup},
		{Name: "mixed-none", Action: model.Allow, Callers: true, Rule: mixed, Request: nobody, NoRule: true},
		{Name: "mixed-stranger", Action: model.Allow, Callers: true, Rule: mixed, Request: orders, From: stranger, NoRule: true},
		{Name: "mixed-big", Action: model.Allow, Callers: true, Rule: mixed, Request: func(i int) string { return big(orders(i)) }, From: inGroup},
		{Name: "simple-none", Action: model.Allow, Rule: simple, Request: nobody, NoRule: true},
		{Name: "both", Action: model.Allow, Both: true, Callers: true, Rule: mixed, Request: orders, From: inGroup},
	}
}

// stranger is in no group and in no block.
func stranger(int) netip.Addr { return netip.AddrFrom4([4]byte{127, 200, 0, 1}) }

func denies() []Mix {
	return []Mix{
		{Name: "deny-paths", Action: model.Deny, Rule: exact, Request: item},
		{Name: "deny-paths-none", Action: model.Deny, Rule: exact, Request: nobody, NoRule: true},
		{Name: "deny-prefixes-none", Action: model.Deny, Rule: prefix, Request: nobody, NoRule: true},
		{Name: "deny-hosts-none", Action: model.Deny, Rule: host, Request: nobody, NoRule: true},
		{Name: "deny-wildcards-none", Action: model.Deny, Rule: wildcard, Request: nobody, NoRule: true},
		{Name: "deny-headers-none", Action: model.Deny, Rule: header, Request: nobody, NoRule: true},
		{Name: "deny-methods-none", Action: model.Deny, Rule: method, Request: nobody, NoRule: true},
		{Name: "deny-peers-none", Action: model.Deny, Rule: getFrom, Request: nobody, NoRule: true},
		{Name: "deny-mixed", Action: model.Deny, Callers: true, Rule: mixed, Request: orders, From: inGroup},
		{Name: "deny-mixed-none", Action: model.Deny, Callers: true, Rule: mixed, Request: nobody, NoRule: true},
		{Name: "deny-mixed-stranger", Action: model.Deny, Callers: true, Rule: mixed, Request: orders, From: stranger, NoRule: true},
		{Name: "deny-simple-none", Action: model.Deny, Rule: simple, Request: nobody, NoRule: true},
		{Name: "deny-paths-big", Action: model.Deny, Rule: exact, Request: func(i int) string { return big(nobody(i)) }, NoRule: true},
	}
}

// spellings are requests that maps cannot look up: a caller must not be able to choose what a request costs.
func spellings() []Mix {
	return []Mix{
		{Name: "hosts-upper-case", Action: model.Allow, Rule: host, Request: func(i int) string { return get("/", fmt.Sprintf("H%d.shop.test", i), "") }},
		{Name: "deny-hosts-upper-case", Action: model.Deny, Rule: host, Request: func(i int) string { return get("/", fmt.Sprintf("H%d.shop.test:8080", i), "") }},
		{Name: "deny-headers-list", Action: model.Deny, Rule: header, Request: func(i int) string { return get("/", "cart", fmt.Sprintf("x-tenant: a,t%d\r\n", i)) }},
		{Name: "deny-paths-parameters", Action: model.Deny, Rule: exact, Request: func(i int) string { return get(fmt.Sprintf("/api/v1/item%d;x", i), "cart", "") }},
		{Name: "deny-paths-parameters-none", Action: model.Deny, Rule: exact, Request: func(int) string { return get("/api/v1/item;x", "cart", "") }, NoRule: true},
	}
}

// Expressions are what no index holds: they are tried one by one, and the limits of a policy bound their number.
func Expressions() []Mix {
	return []Mix{
		{Name: "expressions", Action: model.Allow, Rule: expression, Request: item},
		{Name: "expressions-none", Action: model.Allow, Rule: expression, Request: nobody, NoRule: true},
		{Name: "expressions-big", Action: model.Allow, Rule: expression, Request: func(i int) string { return big(item(i)) }},
		{Name: "deny-expressions-none", Action: model.Deny, Rule: expression, Request: nobody, NoRule: true},
		{Name: "most-expressions", Action: model.Allow, Rule: mostExpressions, Request: func(int) string { return traced(64) }, NoRule: true, Most: rulesPerPolicy},
		{Name: "most-expressions-big", Action: model.Allow, Rule: mostExpressions, Request: func(int) string { return traced(16 << 10) }, NoRule: true, Most: rulesPerPolicy},
	}
}

// mostExpressions is a rule with as many as one may have: each entry's paths and all headers but the last hold, so that none is left out.
func mostExpressions(i int) model.Rule {
	const entries, each = 16, 16
	r := model.Rule{}
	for e := range entries {
		m := model.HTTPMatch{}
		for k := range each {
			m.Paths = append(m.Paths, model.PathMatch{Type: model.Regex, Value: fmt.Sprintf("/[a-z]+/%d-%d-%d|/t.*", i, e, k)})
			m.Headers = append(m.Headers, model.HeaderMatch{Name: "x-trace", Type: model.Regex, Value: fmt.Sprintf("v+|%d.%d.%d", i, e, k)})
		}
		m.Headers[each-1].Value = fmt.Sprintf("v+[0-9]%d.%d", i, e)
		r.HTTP = append(r.HTTP, m)
	}
	return r
}

func traced(size int) string {
	return get("/traced", "cart", "x-trace: "+strings.Repeat("v", size)+"\r\n")
}
