package envoy_test

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// drawnPort is the port that filters are drawn about.
const drawnPort = 18080

// seed is another one at each run; a failure tells it, and PILOT_LITE_SEED runs it again.
func seed(t *testing.T) int {
	t.Helper()
	out := int(rand.Int32())
	if s := os.Getenv("PILOT_LITE_SEED"); s != "" {
		var err error
		if out, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", out)
	return out
}

// way is how a request comes to a filter.
type way struct {
	address       netip.AddrPort
	client        *envoytest.Client
	plainSegments bool
	peer          *envoy.Peer
}

type wayName string

const (
	plaintext          wayName = "plaintext"
	plainSegments      wayName = "plain segments"
	withoutCertificate wayName = "TLS without a certificate"
	withCertificate    wayName = "TLS"
)

func wayNames() []wayName {
	return []wayName{plaintext, plainSegments, withoutCertificate, withCertificate}
}

// request is what a filter sees of a request that comes this way.
func (w *way) request(source netip.Addr, r *model.HTTPRequest) *envoy.Request {
	return &envoy.Request{Source: source, Port: drawnPort, HTTP: r, PlainSegments: w.plainSegments, TLS: w.peer}
}

// startWays puts filters behind one real Envoy, each in reach by every way.
func startWays(t *testing.T, filters []*rbacv3.RBAC) map[wayName]*way {
	t.Helper()
	known := newAuthority(t)
	peer := &envoy.Peer{URIs: []string{"a", "ab"}, DNS: []string{"b.test"}, Subject: "CN=a"}
	nameless := &tls.Config{InsecureSkipVerify: true}
	named := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{known.issue(t, *peer)}}
	ways := map[wayName]*way{
		plaintext:          {client: envoytest.NewClient(t, nil)},
		plainSegments:      {client: envoytest.NewClient(t, nil), plainSegments: true},
		withoutCertificate: {client: envoytest.NewClient(t, nameless), peer: &envoy.Peer{}},
		withCertificate:    {client: envoytest.NewClient(t, named), peer: peer},
	}
	var listeners []*listenerv3.Listener
	for _, name := range wayNames() {
		w := ways[name]
		w.address = ownAddress(t, drawnPort)
		l := httpListener(t, w.address, func(m *hcmv3.HttpConnectionManager) {
			m.GetRouteConfig().IgnorePathParametersInPathMatching = w.plainSegments
		}, filters...)
		if w.peer != nil {
			l = known.secure(t, l)
		}
		listeners = append(listeners, l)
	}
	envoytest.StartListeners(t, listeners...)
	return ways
}

// ownAddress is a port on an address where nothing else listens on it.
func ownAddress(t *testing.T, port uint16) netip.AddrPort {
	t.Helper()
	const tries = 1000
	for range tries {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 3, byte(rand.N(250)), byte(1 + rand.N(250))}), port)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", a.String())
		if err == nil {
			_ = l.Close()
			return a
		}
	}
	t.Fatal("no address is free")
	return netip.AddrPort{}
}

type call struct {
	source netip.Addr
	http   *model.HTTPRequest
}

// Filters of every shape, drawn at random, mean to a real Envoy what the evaluator says: the verdict, the name of what decided, and the shadow.
func TestEnvoyAgreesAboutRandomFilters(t *testing.T) {
	t.Parallel()
	const filters, requests = 500, 12
	seed := seed(t)
	drawn := rapid.Custom(drawFilter)
	calls := rapid.Custom(func(t *rapid.T) call { return call{drawSource(t), drawRequest(t)} })
	var messages []*rbacv3.RBAC
	for i := range filters {
		messages = append(messages, drawn.Example(seed+i))
	}
	ways := startWays(t, messages)
	outcomes := map[envoy.Outcome]int{}
	for i, m := range messages {
		f, err := envoy.HTTP(m)
		if err != nil {
			t.Fatalf("filter %d, which Envoy takes: %v", i, err)
		}
		for k := range requests {
			s := calls.Example(seed + i*requests + k)
			s.http.Headers = append(s.http.Headers, model.Header{Name: caseHeader, Value: strconv.Itoa(i)})
			w := ways[wayNames()[k%len(ways)]]
			r := w.request(s.source, s.http)
			outcomes[f.Decide(r).Outcome]++
			status, told := send(w.client, s.source, w.address, s.http)
			if difference := compare(f, r, status, told); difference != "" {
				t.Fatalf("%s\nrequest %+v from %s, TLS %+v\nfilter %s", difference, s.http, s.source, w.peer, prototext.MarshalOptions{}.Format(m))
			}
		}
	}
	t.Logf("%d requests: %v", filters*requests, outcomes)
	for _, o := range []envoy.Outcome{envoy.Decided, envoy.NoMatch, envoy.NotEnforced, envoy.Insufficient} {
		if outcomes[o] == 0 {
			t.Errorf("no request came to %s: the test shows less than it says", o)
		}
	}
}

// compare says where Envoy's answer is not what the evaluator expects; "" where it is.
func compare(f *envoy.Filter, r *envoy.Request, status int, told http.Header) string {
	want := f.Decide(r)
	switch {
	case want.Err != nil: // no verdict to compare
	case status == http.StatusOK && (!want.Allowed || told.Get("x-rule") != want.Name):
		return fmt.Sprintf("Envoy lets it through by %q; the evaluator says %+v", told.Get("x-rule"), want)
	case status == http.StatusForbidden && (want.Allowed || told.Get("x-details") != details(want.Name)):
		return fmt.Sprintf("Envoy denies it by %q; the evaluator says %+v", told.Get("x-details"), want)
	case status != http.StatusOK && status != http.StatusForbidden:
		return fmt.Sprintf("Envoy answers %d", status)
	}
	shadow, has := f.Shadow(r)
	result := ""
	if has {
		result = "denied"
		if shadow.Allowed {
			result = "allowed"
		}
	}
	// Where Envoy denies, it does not tell of the shadow.
	if status == http.StatusOK && shadow.Err == nil && (told.Get("x-result") != result || told.Get("x-shadow") != shadow.Name) {
		return fmt.Sprintf("Envoy's shadow: %q by %q; the evaluator's %+v", told.Get("x-result"), told.Get("x-shadow"), shadow)
	}
	return ""
}

// details is how Envoy tells who denied.
func details(name string) string {
	if name == "" {
		name = "none"
	}
	return "rbac_access_denied_matched_policy[" + name + "]"
}

// The filters of TCP chains are the same, and see connections only.
func TestEnvoyAgreesAboutRandomNetworkFilters(t *testing.T) {
	t.Parallel()
	const filters = 60
	seed := seed(t)
	drawn := rapid.Custom(drawNetworkFilter)
	var (
		messages  []*networkrbacv3.RBAC
		listeners []*listenerv3.Listener
		addresses []netip.AddrPort
	)
	for i := range filters {
		messages = append(messages, drawn.Example(seed+i))
		addresses = append(addresses, ownAddress(t, uint16(drawnPort+i%2)))
		listeners = append(listeners, networkListener(t, addresses[i], messages[i]))
	}
	envoytest.StartListeners(t, listeners...)
	allowed := 0
	for i, m := range messages {
		f, err := envoy.Network(m)
		if err != nil {
			t.Fatalf("filter %d, which Envoy takes: %v", i, err)
		}
		for _, source := range sources() {
			want := f.Decide(&envoy.Request{Source: source, Port: addresses[i].Port()})
			if got := echoes(t, source, addresses[i]); got != want.Allowed && want.Err == nil {
				t.Fatalf("Envoy lets %s through: %t; the evaluator says %+v\nfilter %s", source, got, want, prototext.MarshalOptions{}.Format(m))
			}
			if want.Allowed {
				allowed++
			}
		}
	}
	t.Logf("%d of %d connections were allowed", allowed, filters*len(sources()))
}
