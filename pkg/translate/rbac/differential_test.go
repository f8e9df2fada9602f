package rbac_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// TestEnvoyAgreesWithEval holds a real Envoy against the reference evaluator, and against the evaluator of its configuration, on random policies and requests: few rules, which are compiled to a
// list, and many, which are compiled to indexes. A failure prints the seed; PILOT_LITE_SEED runs it again, PILOT_LITE_ROUNDS runs more worlds.
func TestEnvoyAgreesWithEval(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PILOT_LITE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	rounds := 1
	if s := os.Getenv("PILOT_LITE_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	for round := range rounds {
		compareOnce(t, seed+uint64(round))
	}
}

func compareOnce(t *testing.T, seed uint64) {
	t.Helper()
	const worlds, requests = 30, 40
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), seed: seed}
	snapshot := &model.Snapshot{}
	var callees []*callee
	for i := range worlds {
		callees = append(callees, g.callee(t, snapshot, i))
	}
	addCallers(snapshot)
	ix := model.NewIndex(snapshot)
	proxy := startProxy(t, ix)
	sidecars := sidecarsByNamespace(t, ix)
	allowed := 0
	for _, c := range callees {
		for range requests {
			r := g.request(c)
			evaluated := sidecars[c.namespace].Decide(&envoy.Call{Source: r.Source, Port: c.listen[r.Port].Port(), HTTP: r.HTTP})
			seen := r
			seen.HTTP = translate.Restored(evaluated.Seen)
			want := eval.Ingress(ix, ix.WorkloadOf(c.namespace, "callee"), seen)
			got, err := c.ask(t, r, g.IntN(2) == 0)
			if want.Allowed {
				allowed++
			}
			if evaluated.Err != nil || evaluated.Allowed != got {
				t.Errorf("seed %d: Envoy let through: %t, its evaluator says %+v\nrequest %+v %+v", seed, got, evaluated, r, r.HTTP)
			}
			if err != nil || got != want.Allowed {
				t.Errorf("seed %d: Envoy let through: %t (%v), eval says %+v\nrequest %+v %+v\npolicies %s",
					seed, got, err, want, r, r.HTTP, describe(snapshot.Policies, c.namespace, want.Decider))
			}
		}
	}
	t.Logf("seed %d: %d of %d requests were allowed", seed, allowed, worlds*requests)
	proxy.Stop()
}

// describe lists a workload's policies, and of many rules only the one that decided.
func describe(policies []*model.Policy, namespace, decider string) string {
	var out strings.Builder
	for _, p := range policies {
		if p.Namespace != namespace {
			continue
		}
		for _, r := range p.Ingress {
			if len(p.Ingress) < 5 || model.RuleName(p.PolicyRef, r.Name) == decider {
				fmt.Fprintf(&out, "\n%s %s: %+v", p.Action, model.RuleName(p.PolicyRef, r.Name), r)
			}
		}
	}
	return out.String()
}

const callers = 6

func addCallers(s *model.Snapshot) {
	for i := range callers {
		s.Pods = append(s.Pods, &model.Pod{
			Namespace: "callers", Name: fmt.Sprintf("caller-%d", i), Labels: map[string]string{"app": fmt.Sprintf("caller-%d", i), "team": fmt.Sprint(i % 2)},
			Addresses: []netip.Addr{callerAddress(i)},
		})
	}
}

func callerAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}) }

// callee is a workload with two HTTP ports and one TCP port.
type callee struct {
	namespace string
	base      uint16
	app       *app
	listen    map[uint16]netip.AddrPort
	known     generator // what its rules name
}

// callee draws a workload's policies, and puts a proxy in front of it.
func (g *generator) callee(t *testing.T, s *model.Snapshot, i int) *callee {
	t.Helper()
	c := g.unbound(s, i)
	c.app = startApp(t)
	pod := s.Pods[len(s.Pods)-1]
	for _, p := range pod.Ports {
		c.listen[p.Number] = ownSocket(t, 20, int(p.Number-firstPort))
		pod.Proxy.Bound = append(pod.Proxy.Bound, model.BoundPort{Port: p.Number, Listen: c.listen[p.Number], Application: c.app.address()})
	}
	return c
}

const firstPort uint16 = 1000

// unbound draws a workload and its policies.
func (g *generator) unbound(s *model.Snapshot, i int) *callee {
	c := &callee{namespace: fmt.Sprintf("w%d", i), base: firstPort + uint16(10*i), listen: map[uint16]netip.AddrPort{}}
	pod := &model.Pod{Namespace: c.namespace, Name: "callee", Labels: map[string]string{"app": "callee"}}
	svc := model.Service{Namespace: c.namespace, Name: "callee", Selector: pod.Labels}
	for n := range uint16(3) {
		port := c.base + n
		pod.Ports = append(pod.Ports, model.ContainerPort{Number: port, Protocol: model.TCP})
		if n < 2 {
			svc.Ports = append(svc.Ports, model.ServicePort{Name: fmt.Sprintf("http-%d", n), Port: port, Protocol: model.TCP, TargetPort: port})
		}
	}
	s.Pods, s.Services = append(s.Pods, pod), append(s.Services, svc)
	g.paths, g.hosts, g.values = nil, nil, nil
	for n := range 1 + g.IntN(4) {
		p := &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: c.namespace, Name: fmt.Sprintf("p%d", n)}, Action: pick(g, model.Allow, model.Deny), IsolatesIngress: true,
			Selector: labels.SelectorFromSet(pod.Labels), Accepted: true, DryRun: g.IntN(8) == 0,
		}
		size := pick(g, 1, 2, 3, 20, 60, 150)
		g.narrow = size > 10 // many wide rules would match everything
		g.focus = pick(g, "path", "path", "host", "wildcard", "header", "source")
		for k := range size {
			p.Ingress = append(p.Ingress, g.rule(c, fmt.Sprint(k), p.Action))
		}
		s.Policies = append(s.Policies, p)
	}
	c.known = *g
	return c
}

// generator draws policies and requests from small alphabets, so that they meet.
type generator struct {
	*rand.Rand
	seed   uint64
	narrow bool     // draw rules that match little
	focus  string   // what narrow rules tell requests apart by
	paths  []string // that rules name
	hosts  []string
	values []string
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

func some[T any](g *generator, draw func() T) []T {
	var out []T
	n := 1 + g.IntN(3)
	if g.narrow {
		n = 1 + g.IntN(2)*g.IntN(2)
	}
	for range n {
		out = append(out, draw())
	}
	return out
}

func (g *generator) rule(c *callee, name string, action model.Action) model.Rule {
	r := model.Rule{Name: name}
	if g.narrow && g.focus == "source" {
		r.Peers = some(g, g.smallBlock)
	} else if g.IntN(3) > 0 {
		r.Peers = some(g, g.peer)
	}
	if g.IntN(2) == 0 {
		r.Ports = some(g, func() model.PortRange {
			from := c.base + uint16(g.IntN(4))
			return model.PortRange{Protocol: pick(g, model.TCP, model.TCP, model.TCP, model.UDP), From: from, To: from + uint16(pick(g, 0, 0, 1, 2000))}
		})
	}
	// A Deny without http shuts so much that nothing else would be tested.
	if g.IntN(30) > 0 || g.narrow {
		r.HTTP = some(g, func() model.HTTPMatch { return g.match(action) })
	}
	return r
}

func (g *generator) peer() model.Peer {
	everywhere := labels.Everything()
	switch g.IntN(4) {
	case 0:
		return model.Peer{Namespaces: everywhere, Pods: labels.SelectorFromSet(labels.Set{"team": fmt.Sprint(g.IntN(2))})}
	case 1:
		return model.Peer{Block: &model.IPBlock{
			CIDR: netip.MustParsePrefix("127.0.1.0/30"), Except: []netip.Prefix{netip.PrefixFrom(callerAddress(g.IntN(callers)), 32)},
		}}
	}
	return model.Peer{Namespaces: everywhere, Pods: labels.SelectorFromSet(labels.Set{"app": fmt.Sprintf("caller-%d", g.IntN(callers+1))})}
}

// smallBlock is one of many sets of few callers.
func (g *generator) smallBlock() model.Peer {
	block := &model.IPBlock{CIDR: netip.PrefixFrom(callerAddress(g.IntN(callers)), 29+g.IntN(4)).Masked()}
	for range g.IntN(4) {
		block.Except = append(block.Except, netip.PrefixFrom(callerAddress(g.IntN(40)), 32))
	}
	return model.Peer{Block: block}
}

func (g *generator) match(_ model.Action) model.HTTPMatch {
	var m model.HTTPMatch
	switch {
	case g.narrow && g.focus == "host":
		name := fmt.Sprintf("h%d.test", g.IntN(60))
		g.hosts = append(g.hosts, name)
		return model.HTTPMatch{Hosts: []model.Host{{Name: name, Aliases: []string{name + ".svc"}, Wildcard: g.IntN(12) == 0}}}
	case g.narrow && g.focus == "wildcard":
		name := fmt.Sprintf("h%d.test", g.IntN(60))
		g.hosts = append(g.hosts, "x."+name)
		return model.HTTPMatch{Hosts: []model.Host{{Name: name, Wildcard: g.IntN(9) > 0}}}
	case g.narrow && g.focus == "header":
		value := fmt.Sprintf("t%d", g.IntN(60))
		g.values = append(g.values, value)
		return model.HTTPMatch{Headers: []model.HeaderMatch{{Name: "cookie", Type: pick(g, model.Exact, model.Exact, model.Exact, model.Regex), Value: value}}}
	}
	if g.IntN(8) > 0 || g.narrow && g.IntN(8) > 0 {
		m.Paths = some(g, g.pathMatch)
	}
	if g.IntN(3) == 0 {
		m.Hosts = some(g, g.host)
	}
	if g.IntN(3) == 0 {
		m.Methods = some(g, func() string { return pick(g, "GET", "POST", "DELETE") })
	}
	if g.IntN(3) == 0 {
		m.Headers = some(g, g.headerMatch)[:1]
	}
	return m
}

func (g *generator) host() model.Host {
	switch g.IntN(4) {
	case 0:
		return model.Host{Name: "good.test", Wildcard: true}
	case 1:
		return model.Host{Name: "cart", Aliases: []string{"cart.shop", "cart.shop.svc", "10.96.0.1", "[fd00::1]"}}
	}
	return model.Host{Name: pick(g, "a.test", "b.test", "b.test.org", "good.test", "h"+fmt.Sprint(g.IntN(30)))}
}

func (g *generator) segment() string {
	return pick(g, "a", "b", "ab", "admin", "v1", "caf%C3%A9", "x:y", "i"+fmt.Sprint(g.IntN(40)), "i"+fmt.Sprint(g.IntN(40)))
}

func (g *generator) path() string {
	var b strings.Builder
	for range g.IntN(4) {
		b.WriteString("/" + g.segment())
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

func (g *generator) pathMatch() model.PathMatch {
	if g.narrow && g.IntN(10) > 0 {
		m := model.PathMatch{Type: pick(g, model.Exact, model.Prefix), Value: "/" + pick(g, "api", "v1", "x:y") + "/i" + fmt.Sprint(g.IntN(60)) + pick(g, "", "", g.path())}
		g.paths = append(g.paths, m.Value)
		return m
	}
	switch g.IntN(6) {
	case 0:
		return model.PathMatch{Type: model.Regex, Value: pick(g, "/a.*", "/(?:a|b)/i[0-9]+", `.*\.css`, "(?i)/ADMIN(/.*)?", "/a|/b", "/[^b]+", "^/a(/b)?$", `/\w+`, "/v1/[^/]+/x:y", "/i[1-3].*")}
	case 1, 2:
		return model.PathMatch{Type: model.Prefix, Value: g.path() + pick(g, "", "", "", "/")}
	}
	return model.PathMatch{Type: model.Exact, Value: g.path()}
}

func (g *generator) headerValue() string {
	return pick(g, "a", "b", "ab", "user", "a b", "A", "\u00e9")
}

func (g *generator) headerMatch() model.HeaderMatch {
	m := model.HeaderMatch{Name: pick(g, "x-role", "x-role", "cookie", "x-forwarded-proto"), Type: pick(g,
		model.Exact, model.Exact, model.Exact, model.Regex, model.Regex, model.Present, model.Absent, model.NotExact, model.NotRegex)}
	switch m.Type {
	case model.Regex, model.NotRegex:
		m.Value = pick(g, "a.*", "[^b]+", "a|b", "(?i)A+", ".*", "a,b", "[^a]*", "(?:a|ab|user)", "(?i)[a-z]+", "(?i)[^k]+")
	case model.Exact, model.NotExact:
		m.Value = pick(g, g.headerValue(), "a,b")
	}
	return m
}

func (g *generator) request(c *callee) model.Request {
	g.paths, g.hosts, g.values = c.known.paths, c.known.hosts, c.known.values
	r := model.Request{Source: callerAddress(g.IntN(callers)), Port: c.base + uint16(pick(g, 0, 0, 0, 1, 1, 2))}
	if r.Port == c.base+2 {
		return r
	}
	r.HTTP = &model.HTTPRequest{Method: pick(g, "GET", "GET", "POST", "DELETE"), Host: g.authority(), Path: g.target()}
	if len(g.values) > 0 && g.IntN(3) == 0 {
		value := pick(g, g.values...)
		r.HTTP.Headers = append(r.HTTP.Headers, model.Header{Name: "cookie", Value: pick(g, value, value, "a, "+value, value+",b", "a; "+value, value+"0")})
	}
	for range pick(g, 0, 0, 1, 1, 2) {
		r.HTTP.Headers = append(r.HTTP.Headers, model.Header{Name: pick(g, "x-role", "x-role", "cookie"), Value: pick(g, g.headerValue(), g.headerValue(), "a,b", "a, b", "b ,a", "a;b", "")})
	}
	for range pick(g, 0, 0, 1, 2) {
		r.HTTP.Headers = append(r.HTTP.Headers, model.Header{Name: "x-forwarded-proto", Value: pick(g, g.headerValue(), "a,b")})
	}
	return r
}

func (g *generator) authority() string {
	name := pick(g, g.host().Name, "sub.good.test", "evilgood.test", "cart.shop", "10.96.0.1", "[fd00::1]", "other")
	if len(g.hosts) > 0 && g.IntN(3) == 0 {
		name = pick(g, "", "", "", "x.", "x") + pick(g, g.hosts...) + pick(g, "", "", "", ".svc", ".svc.x")
	}
	if !strings.HasPrefix(name, "[") {
		name += pick(g, "", "", "", ".")
	}
	if g.IntN(5) == 0 {
		name = strings.ToUpper(name)
	}
	return name + pick(g, "", "", ":80", ":8080")
}

// target is a path that normalization changes little, if at all.
func (g *generator) target() string {
	path := g.path()
	if len(g.paths) > 0 && g.IntN(2) == 0 {
		path = pick(g, g.paths...) + pick(g, "", "", "/b")
	}
	if g.IntN(4) == 0 {
		path = strings.NewReplacer("x:y", "x%3Ay", "%C3%A9", "%c3%a9").Replace(path)
	}
	switch g.IntN(8) {
	case 0:
		path += pick(g, ";p=1", ";", "/;q", "%0a", "%2", "x", ".css", "/")
	case 1:
		path = strings.Replace(path, "/", pick(g, "/;p/", "/;/", "/a;p/"), 1)
	case 2:
		path += "/"
	}
	return path + pick(g, "", "", "", "?", "?x=/a;b", "?y=.css", "?/../admin")
}

// ask sends a request over a connection of its own and says whether the application got it.
func (c *callee) ask(t *testing.T, r model.Request, http2 bool) (bool, error) {
	t.Helper()
	before := len(c.app.seen())
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: r.Source.AsSlice()}}
	conn, err := dialer.DialContext(t.Context(), "tcp", c.listen[r.Port].String())
	if err != nil {
		return false, fmt.Errorf("dial: %w", err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	status := 0
	switch {
	case r.HTTP != nil && http2:
		headers := [][2]string{{":method", r.HTTP.Method}, {":scheme", "http"}, {":authority", r.HTTP.Host}, {":path", r.HTTP.Path}}
		for _, h := range r.HTTP.Headers {
			headers = append(headers, [2]string{h.Name, h.Value})
		}
		answers, err := sendHTTP2(conn, headers, nil)
		if err != nil {
			return false, err
		}
		status = answers[0].status
	case r.HTTP != nil:
		status, err = askHTTP1(conn, r.HTTP)
	default:
		status, err = askHTTP1(conn, &model.HTTPRequest{Method: "GET", Path: "/", Host: "tcp"})
		if err != nil {
			status, err = http.StatusForbidden, nil // closed without a byte
		}
	}
	if err != nil {
		return false, err
	}
	hits := len(c.app.seen()) - before
	switch {
	case status == http.StatusOK && hits == 1:
		return true, nil
	case status == http.StatusForbidden && hits == 0:
		return false, nil
	}
	return false, fmt.Errorf("status %d, %d requests at the application", status, hits)
}

func askHTTP1(conn net.Conn, r *model.HTTPRequest) (int, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n", r.Method, r.Path, r.Host)
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	b.WriteString("\r\n")
	if _, err := conn.Write(b.Bytes()); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: r.Method})
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}
