// Package rulemix makes kinds of policies of any size, for what is measured and held against the number of rules. Input: a Mix and a number of rules.
// Output: policies, the pods that they name, a request that one of the rules decides, and the same rules as a plain list. Entry points: Mixes and Plain.
package rulemix

import (
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// Namespace holds the callee and its callers.
	Namespace = "bench"
	// Port is the port of the callee that policies name.
	Port = 1000
	// groups of callers have groupSize addresses each.
	groups, groupSize = 100, 100
	// rulesPerPolicy is the most that a policy may hold.
	rulesPerPolicy = 64
)

// Mix is a kind of policy.
type Mix struct {
	Name   string
	Action model.Action
	// Both makes the first half of the rules denies, before allows.
	Both bool
	// Callers says that rules name pods: Pods is a part of the snapshot.
	Callers bool
	// Rule is the i-th rule, and Request one that it decides, where NoRule is not set.
	Rule    func(i int) model.Rule
	Request func(i int) string
	NoRule  bool
	// From is where the request comes from; nil: 127.0.0.1.
	From func(i int) netip.Addr
	// Most is the number of rules up to which the mix makes sense; 0: any.
	Most int
}

// Denied says whether the request of a rule is refused.
func (m Mix) Denied() bool { return (m.Action == model.Deny) != m.NoRule }

// Source is the address from which the request of rule i comes.
func (m Mix) Source(i int) netip.Addr {
	if m.From == nil {
		return outside()
	}
	return m.From(i)
}

// CalleeLabels are what the policies select.
func CalleeLabels() map[string]string { return map[string]string{"app": "callee"} }

// Policies are n rules, over as many policies as their limits need.
func (m Mix) Policies(n int) []*model.Policy {
	var out []*model.Policy
	for i := range n {
		action := m.Action
		if m.Both && i < n/2 {
			action = model.Deny
		}
		last := len(out) - 1
		if last < 0 || len(out[last].Ingress) == rulesPerPolicy || out[last].Action != action {
			last++
			out = append(out, &model.Policy{
				PolicyRef: model.PolicyRef{Namespace: Namespace, Name: fmt.Sprintf("p%04d", last)}, Action: action, IsolatesIngress: true,
				Accepted: true, Selector: labels.SelectorFromSet(CalleeLabels()),
			})
		}
		r := m.Rule(i)
		r.Name = fmt.Sprintf("r%05d", i)
		out[last].Ingress = append(out[last].Ingress, r)
	}
	return out
}

// Pods are the callers that rules name: groups of equal size.
func (m Mix) Pods() []*model.Pod {
	if !m.Callers {
		return nil
	}
	out := make([]*model.Pod, 0, groups*groupSize)
	for i := range groups * groupSize {
		group := fmt.Sprintf("g%02d", i/groupSize)
		out = append(out, &model.Pod{
			Namespace: Namespace, Name: fmt.Sprintf("caller-%s-%02d", group, i%groupSize), Owner: group,
			Labels: map[string]string{"role": "caller", "group": group}, Addresses: []netip.Addr{caller(i)},
		})
	}
	return out
}

// caller is the address of the i-th caller: each is one of the loopback device.
func caller(i int) netip.Addr {
	const octet = 256
	return netip.AddrFrom4([4]byte{127, byte(64 + i/octet/octet), byte(i / octet), byte(i)})
}

// outside is in no group: whoever sends from it is known by a block.
func outside() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

func inGroup(i int) netip.Addr { return caller(i % groups * groupSize) }

func group(i int) model.Peer {
	return model.Peer{Pods: labels.SelectorFromSet(labels.Set{"group": fmt.Sprintf("g%02d", i%groups)})}
}

func everyCaller() model.Peer {
	return model.Peer{Pods: labels.SelectorFromSet(labels.Set{"role": "caller"})}
}

func block(prefix netip.Prefix) model.Peer { return model.Peer{Block: &model.IPBlock{CIDR: prefix}} }

func get(path, host, headers string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + headers + "\r\n"
}

func one(m model.HTTPMatch) model.Rule { return model.Rule{HTTP: []model.HTTPMatch{m}} }

func path(typ model.MatchType, format string, i int) []model.PathMatch {
	return []model.PathMatch{{Type: typ, Value: fmt.Sprintf(format, i)}}
}

func exact(i int) model.Rule {
	return one(model.HTTPMatch{Methods: []string{"GET"}, Paths: path(model.Exact, "/api/v1/item%d", i)})
}

func prefix(i int) model.Rule {
	return one(model.HTTPMatch{Paths: path(model.Prefix, "/api/v1/item%d", i)})
}

func host(i int) model.Rule {
	return one(model.HTTPMatch{Hosts: []model.Host{{Name: fmt.Sprintf("h%d.shop.test", i)}}})
}

func wildcard(i int) model.Rule {
	return one(model.HTTPMatch{Hosts: []model.Host{{Name: fmt.Sprintf("h%d.shop.test", i), Wildcard: true}}})
}

func header(i int) model.Rule {
	return one(model.HTTPMatch{Headers: []model.HeaderMatch{{Name: "x-tenant", Type: model.Exact, Value: fmt.Sprintf("t%d", i)}}})
}

// method rules differ in the method, eight to a path.
func method(i int) model.Rule {
	return one(model.HTTPMatch{Methods: []string{methods()[i%len(methods())]}, Paths: path(model.Prefix, "/api/v1/item%d", i/len(methods()))})
}

func methods() []string {
	return []string{"PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "GET"}
}

// expression rules have nothing that an index could hold them by.
func expression(i int) model.Rule {
	return one(model.HTTPMatch{Paths: path(model.Regex, "/[a-z]+/[a-z0-9]+/item%d(/.*)?", i)})
}

func address(i int) netip.Addr {
	const octet = 250
	return netip.AddrFrom4([4]byte{127, 1, byte(i / octet), byte(i%octet + 1)})
}

func peer(i int) model.Rule {
	a := address(i)
	return model.Rule{Peers: []model.Peer{block(netip.PrefixFrom(a, a.BitLen()))}}
}

// getFrom is peer with something of HTTP. Rules without any are denied by NetworkPolicies too, which is not measured here.
func getFrom(i int) model.Rule {
	r := peer(i)
	r.HTTP = []model.HTTPMatch{{Methods: []string{"GET"}}}
	return r
}

func peers100(i int) model.Rule {
	r := prefix(i)
	r.Peers = []model.Peer{group(i)}
	return r
}

func peers10000(i int) model.Rule {
	r := prefix(i)
	r.Peers = []model.Peer{everyCaller()}
	return r
}

func tcp(from, to uint16) model.PortRange {
	return model.PortRange{Protocol: model.TCP, From: from, To: to}
}

// mixed rules are a matrix of services and callers: a hundred rules to a service, each with callers, ports and several http entries.
func mixed(i int) model.Rule {
	service := i / groups
	r := model.Rule{Peers: []model.Peer{group(i)}, Ports: []model.PortRange{tcp(Port, Port)}}
	switch i % 3 {
	case 1:
		r.Peers = []model.Peer{block(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i % groups), 0, 0}), 16)), block(netip.PrefixFrom(outside(), 16).Masked())}
		if i/3%8 > 0 {
			r.Peers = r.Peers[:1]
		}
		r.Ports = []model.PortRange{tcp(Port, Port), tcp(9090, 9090)}
	case 2:
		r.Peers = []model.Peer{group(i), group(i + 1)}
		r.Ports = []model.PortRange{tcp(Port, Port+99)}
	}
	r.HTTP = []model.HTTPMatch{
		{Methods: []string{"GET", "HEAD"}, Paths: append(path(model.Prefix, "/svc%d/orders", service), path(model.Exact, "/svc%d/health", service)...)},
		{
			Methods: []string{"POST"}, Paths: path(model.Prefix, "/svc%d/orders", service),
			Headers: []model.HeaderMatch{{Name: "x-tenant", Type: model.Exact, Value: fmt.Sprintf("t%d", i%50)}},
		},
		{Hosts: []model.Host{{Name: fmt.Sprintf("svc%d.shop.test", service)}}, Paths: path(model.Exact, "/status/%d", i)},
	}
	return r
}

// simple rules each tell requests apart by something else.
func simple(i int) model.Rule {
	kinds := []func(int) model.Rule{exact, prefix, host, header, getFrom}
	r := kinds[i%len(kinds)](i)
	if i%3 == 0 && r.Peers == nil {
		r.Peers = []model.Peer{block(netip.MustParsePrefix("127.0.0.0/16"))}
	}
	if i%4 == 0 {
		r.Ports = []model.PortRange{tcp(Port, Port)}
	}
	return r
}

func item(i int) string  { return get(fmt.Sprintf("/api/v1/item%d", i), "cart", "") }
func below(i int) string { return get(fmt.Sprintf("/api/v1/item%d/x", i), "cart", "") }

func hostOf(i int) string { return get("/", fmt.Sprintf("h%d.shop.test", i), "") }

func orders(i int) string {
	return get(fmt.Sprintf("/svc%d/orders/17?page=2", i/groups), "cart", "x-tenant: t7\r\naccept: */*\r\n")
}

func nobody(int) string { return get("/nothing/of/this", "cart", "x-tenant: none\r\n") }

// big makes a request as large as browsers with many cookies and long links send.
func big(request string) string {
	const headers, pad = 60, 64
	line, rest, _ := strings.Cut(request, " HTTP/1.1\r\n")
	var b strings.Builder
	b.WriteString(line + "?q=" + strings.Repeat("a%20b", 1<<10) + " HTTP/1.1\r\n")
	for i := range headers {
		fmt.Fprintf(&b, "x-trace-%d: %s\r\n", i, strings.Repeat("v", pad))
	}
	return b.String() + rest
}
