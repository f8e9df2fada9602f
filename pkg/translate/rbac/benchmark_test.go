package rbac_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// BenchmarkRequest measures the processor time of a real Envoy for one request, without any policy and behind 10, 1,000 and 10,000 rules, of
// which the last decides, or none (a default deny). Run with -benchtime=3000x or more: the clock ticks in hundredths of a second.
func BenchmarkRequest(b *testing.B) {
	for _, mix := range mixes() {
		for _, n := range []int{0, 10, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/rules=%d", mix.name, n), func(b *testing.B) { benchmarkMix(b, mix, n) })
		}
	}
}

// mix is a kind of policy: the i-th of n rules, and a request that it alone decides.
type mix struct {
	name    string
	action  model.Action
	rule    func(i int) model.Rule
	request func(i int) string
}

func get(path, host, headers string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + headers + "\r\n"
}

func mixes() []mix {
	one := func(m model.HTTPMatch) model.Rule { return model.Rule{HTTP: []model.HTTPMatch{m}} }
	path := func(typ model.MatchType, value string) []model.PathMatch {
		return []model.PathMatch{{Type: typ, Value: value}}
	}
	exact := func(i int) model.Rule {
		return one(model.HTTPMatch{Methods: []string{"GET"}, Paths: path(model.Exact, fmt.Sprintf("/api/v1/item%d", i))})
	}
	item := func(i int) string { return get(fmt.Sprintf("/api/v1/item%d", i), "cart", "") }
	prefix := func(i int) model.Rule {
		return one(model.HTTPMatch{Paths: path(model.Prefix, fmt.Sprintf("/api/v1/item%d", i))})
	}
	below := func(i int) string { return get(fmt.Sprintf("/api/v1/item%d/x", i), "cart", "") }
	host := func(i int) model.Rule {
		return one(model.HTTPMatch{Hosts: []model.Host{{Name: fmt.Sprintf("h%d.shop.test", i)}}})
	}
	wildcard := func(i int) model.Rule {
		return one(model.HTTPMatch{Hosts: []model.Host{{Name: fmt.Sprintf("h%d.shop.test", i), Wildcard: true}}})
	}
	hostOf := func(i int) string { return get("/", fmt.Sprintf("h%d.shop.test:8080", i), "") }
	header := func(i int) model.Rule {
		return one(model.HTTPMatch{Headers: []model.HeaderMatch{{Name: "x-tenant", Type: model.Exact, Value: fmt.Sprintf("t%d", i)}}})
	}
	tenant := func(i int) string { return get("/", "cart", fmt.Sprintf("x-tenant: t%d\r\n", i)) }
	peer := func(i int) model.Rule {
		a := netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(i%250 + 1)})
		return model.Rule{Peers: []model.Peer{{Block: &model.IPBlock{CIDR: netip.PrefixFrom(a, 32)}}}}
	}
	kinds := []func(int) model.Rule{exact, prefix, host, header, peer}
	mixed := func(i int) model.Rule {
		r := kinds[i%len(kinds)](i)
		if i%3 == 0 && r.Peers == nil {
			r.Peers = []model.Peer{{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("127.0.0.0/16")}}}
		}
		if i%4 == 0 {
			r.Ports = []model.PortRange{{Protocol: model.TCP, From: 1000, To: 1000}}
		}
		return r
	}
	nobody := func(int) string { return get("/nothing/of/this", "cart", "x-tenant: none\r\n") }
	return []mix{
		{"paths", model.Allow, exact, item},
		{"prefixes", model.Allow, prefix, below},
		{"hosts", model.Allow, host, hostOf},
		{"hosts-upper-case", model.Allow, host, func(i int) string { return get("/", fmt.Sprintf("H%d.shop.test:8080", i), "") }},
		{"wildcards", model.Allow, wildcard, func(i int) string { return get("/", fmt.Sprintf("x.h%d.shop.test:8080", i), "") }},
		{"headers", model.Allow, header, tenant},
		{"peers-none", model.Allow, peer, nobody},
		{"mixed-none", model.Allow, mixed, nobody},
		{"deny-paths", model.Deny, exact, item},
		{"deny-prefixes", model.Deny, prefix, below},
		{"deny-hosts", model.Deny, host, hostOf},
		{"deny-mixed-none", model.Deny, mixed, nobody},
		{"deny-headers-list", model.Deny, header, func(i int) string { return get("/", "cart", fmt.Sprintf("x-tenant: a,t%d\r\n", i)) }},
		{"deny-paths-parameters", model.Deny, exact, func(i int) string { return get(fmt.Sprintf("/api/v1/item%d;x", i), "cart", "") }},
	}
}

func benchmarkMix(b *testing.B, m mix, n int) {
	snapshot := &model.Snapshot{}
	f := newFixture(b, snapshot, "bench", 1000)
	for i := range n {
		if i%64 == 0 {
			snapshot.Policies = append(snapshot.Policies, model.Policy{
				PolicyRef: model.PolicyRef{Namespace: f.namespace, Name: fmt.Sprintf("p%04d", i/64)}, Action: m.action, IsolatesIngress: true,
				Accepted: true, Selector: labels.SelectorFromSet(labels.Set{"app": "callee"}),
			})
		}
		p := &snapshot.Policies[len(snapshot.Policies)-1]
		r := m.rule(i)
		r.Name = fmt.Sprint(i)
		p.Ingress = append(p.Ingress, r)
	}
	envoy := startProxy(b, model.NewIndex(snapshot))
	conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", f.listen.String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	reader, request := bufio.NewReader(conn), m.request(n-1)
	send := func() {
		if _, err := io.WriteString(conn, request); err != nil {
			b.Fatal(err)
		}
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	send()
	before := envoy.CPU()
	for b.Loop() {
		send()
	}
	used := envoy.CPU() - before
	b.ReportMetric(float64(used)/float64(b.N)/float64(time.Microsecond), "envoy-us/op")
	envoy.Stop()
}
