package xds_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// proxied is a real Envoy that runs what a replica serves at an address: a listener and clusters of the translator's, and the test's slots.
type proxied struct {
	*envoytest.Envoy
	t    *testing.T
	path string
	url  string
	base []proto.Message // all but the two slots that a test fills
}

func newProxied(t *testing.T, protocol bootstrap.Protocol) *proxied {
	t.Helper()
	const address = "127.78.0.1"
	port := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(address), uint16(porttest.Free(t, address)))
	}
	web, db := port(), port()
	ix := model.NewIndex(&model.Snapshot{
		Services: []model.Service{{Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "cart"}, Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, TargetPort: 80}}}},
		Pods: []*model.Pod{{
			Namespace: "shop", Name: "cart", Labels: map[string]string{"app": "cart"},
			Ports: []model.ContainerPort{{Number: 80, Protocol: model.TCP}, {Number: 5432, Protocol: model.TCP}},
			Proxy: model.ProxySettings{Bound: []model.BoundPort{{Port: 80, Listen: web, Application: port()}, {Port: 5432, Listen: db, Application: port()}}},
		}},
	})
	p := &proxied{t: t, path: socket(t), url: "http://" + web.String()}
	for _, r := range translate.Translate(ix).Workloads[0].Resources {
		s, isSlot := r.Message.(*corev3.TypedExtensionConfig)
		if !isSlot || s.GetName() != rbac.HTTPSlot && s.GetName() != rbac.TCPSlot {
			p.base = append(p.base, r.Message)
		}
	}
	admin := envoytest.AdminSocket(t)
	b, err := bootstrap.Build(bootstrap.Config{Namespace: "shop", Pod: "cart", Server: p.path, Admin: "unix:" + admin, Protocol: protocol})
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	p.Envoy = envoytest.Start(t, string(text), admin)
	return p
}

// state is an update with the listeners and clusters, and a content for each of the two slots.
func (p *proxied) state(forHTTP, forTCP content) xds.Update {
	p.t.Helper()
	return update(p.t, append(append([]proto.Message{}, p.base...), slot(p.t, rbac.HTTPSlot, forHTTP), slot(p.t, rbac.TCPSlot, forTCP))...)
}

// answers waits until a request gets a status code. There is no application: what is allowed gets 503.
func (p *proxied) answers(want int) {
	p.t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	p.Eventually(fmt.Sprintf("requests get %d", want), func() error {
		resp, err := client.Get(p.url)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			return fmt.Errorf("got %d", resp.StatusCode)
		}
		return nil
	})
}

const (
	denied   = http.StatusForbidden
	admitted = http.StatusServiceUnavailable
)

// scenario is a way in which an ACK lies: Envoy remembers the hash of content that it refused, and ACKs the same bytes without running them.
type scenario struct {
	name string
	// run drives the proxy to the last replica, at which the refused content is sent again.
	run func(p *proxied, s xds.Salter) *replica
	// runs is what requests get all along.
	runs int
}

func scenarios() []scenario {
	return []scenario{
		{"refused, reconnect, same bytes", func(p *proxied, s xds.Salter) *replica {
			r := refusedAfterGood(p, s)
			r.reconnect()
			return r
		}, admitted},
		{"refused before anything was accepted, then restart", func(p *proxied, s xds.Salter) *replica {
			r := start(p.t, p.path, s)
			r.cache.Set(p.state(refuse, deny))
			r.eventually(rbac.HTTPSlot, xds.StateRefused)
			return next(p, r, s)
		}, denied},
		{"refused, restart", func(p *proxied, s xds.Salter) *replica {
			return next(p, refusedAfterGood(p, s), s)
		}, admitted},
		{"refused by one replica, then two others", func(p *proxied, s xds.Salter) *replica {
			b := next(p, refusedAfterGood(p, s), s)
			if s != nil {
				b.eventually(rbac.HTTPSlot, xds.StateRefused)
			}
			return next(p, b, s)
		}, admitted},
	}
}

// refusedAfterGood leaves the proxy with good content in force and bad content refused.
func refusedAfterGood(p *proxied, s xds.Salter) *replica {
	r := start(p.t, p.path, s)
	r.cache.Set(p.state(allow, deny))
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)
	r.cache.Set(p.state(refuse, deny))
	r.eventually(rbac.HTTPSlot, xds.StateRefused)
	return r
}

// next is another process that takes the address over and wants the refused content too.
func next(p *proxied, r *replica, s xds.Salter) *replica {
	r.stop()
	n := start(p.t, p.path, s)
	n.cache.Set(p.state(refuse, deny))
	return n
}

// What a proxy refused is never counted as enforced, however it is asked again.
func TestARefusalStaysARefusal(t *testing.T) {
	t.Parallel()
	for _, protocol := range []bootstrap.Protocol{bootstrap.DeltaGRPC, bootstrap.StateOfTheWorld} {
		for _, s := range scenarios() {
			t.Run(string(protocol)+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				p := newProxied(t, protocol)
				r := s.run(p, salter(true))
				r.eventually(rbac.HTTPSlot, xds.StateRefused)
				p.answers(s.runs)
				r.cache.Set(p.state(deny, deny)) // and what is good again is in force again
				r.eventually(rbac.HTTPSlot, xds.StateEnforced)
				p.answers(denied)
			})
		}
	}
}

// Why there is a salt: without one Envoy acknowledges what it refused, and does not run it. Should this test fail, Envoy has mended its ways, and the
// salt can go.
func TestWithoutASaltAcknowledgementsLie(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			p := newProxied(t, bootstrap.DeltaGRPC)
			r := s.run(p, salter(false))
			r.eventually(rbac.HTTPSlot, xds.StateEnforced) // the lie
			p.answers(s.runs)
		})
	}
}

// A bad slot takes no other with it, in either protocol: each travels alone.
func TestABadSlotDoesNotTakeItsNeighbourWithIt(t *testing.T) {
	t.Parallel()
	for _, protocol := range []bootstrap.Protocol{bootstrap.DeltaGRPC, bootstrap.StateOfTheWorld} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			p := newProxied(t, protocol)
			r := start(t, p.path, salter(true))
			r.cache.Set(p.state(allow, deny))
			r.eventually(rbac.HTTPSlot, xds.StateEnforced)
			r.eventually(rbac.TCPSlot, xds.StateEnforced)
			p.answers(admitted)

			r.cache.Set(p.state(refuse, allow)) // the bad one is sent first
			r.eventually(rbac.HTTPSlot, xds.StateRefused)
			r.eventually(rbac.TCPSlot, xds.StateEnforced)
			p.answers(admitted)
			if got := r.status(rbac.HTTPSlot); got.Text == "" || got.Enforced == got.Desired {
				t.Errorf("the refusal lacks its text, or claims to be enforced: %+v", got)
			}

			r.cache.Set(p.state(deny, refuse)) // and the good one first
			r.eventually(rbac.HTTPSlot, xds.StateEnforced)
			r.eventually(rbac.TCPSlot, xds.StateRefused)
			p.answers(denied)
		})
	}
}

// A cluster that Envoy refuses takes those of the same response with it: they are sent again one by one.
func TestWhatSharedARefusedResponseIsSentAgain(t *testing.T) {
	t.Parallel()
	p := newProxied(t, bootstrap.DeltaGRPC)
	r := start(t, p.path, salter(true))
	bad := &clusterv3.Cluster{Name: "bad", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}} // lacks its lb_policy
	messages := append([]proto.Message{bad}, p.base...)
	r.cache.Set(update(t, append(messages, slot(t, rbac.HTTPSlot, allow), slot(t, rbac.TCPSlot, deny))...))
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)
	p.answers(admitted)
	p.Eventually("the good clusters are enforced, the bad one is refused", func() error {
		for _, s := range r.cache.Status()[0].Resources {
			want := xds.StateEnforced
			if s.Name == "bad" {
				want = xds.StateRefused
			}
			if s.State != want {
				return fmt.Errorf("%s is %s: %s", s.Name, s.State, s.Text)
			}
		}
		return nil
	})
}

// In a state of the world nothing can be sent on its own: one bad cluster keeps the good ones from applying as little, and all that is new is unproved.
func TestABadClusterInTheStateOfTheWorld(t *testing.T) {
	t.Parallel()
	p := newProxied(t, bootstrap.StateOfTheWorld)
	r := start(t, p.path, salter(true))
	bad := &clusterv3.Cluster{Name: "bad", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}}
	messages := append([]proto.Message{bad}, p.base...)
	slots := []proto.Message{slot(t, rbac.HTTPSlot, allow), slot(t, rbac.TCPSlot, deny)}
	r.cache.Set(update(t, append(messages, slots...)...))
	r.becomes("bad", xds.StateRefused)
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)
	p.answers(admitted)                                                         // and not 503 for a cluster that is not there: that has another flag
	if n := p.Stat("cluster_manager.cluster_added"); n < int64(len(p.base)-1) { // one of which is a slot
		t.Errorf("%d clusters were added", n)
	}
	r.cache.Set(p.state(deny, deny))
	for _, s := range r.cache.Status()[0].Resources {
		r.becomes(s.Name, xds.StateEnforced)
	}
	p.answers(denied)
}

// Why one slot travels at a time: two in one response are refused together, and the good one is in force only if Envoy happens to come to it first, in
// an order that is a hash's. Should this test fail, Envoy has mended its ways.
func TestABadNeighbourTakesAGoodSlotWithIt(t *testing.T) {
	t.Parallel()
	p := newProxied(t, bootstrap.DeltaGRPC)
	together := &togetherServer{updates: make(chan []*xds.Resource), refused: make(chan string)}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, together)
	l, err := xds.Listen(t.Context(), p.path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	for _, m := range p.base {
		together.base = append(together.base, resource(t, m))
	}
	loads := map[string]string{
		rbac.HTTPSlot: "extension_config_discovery.http_filter." + rbac.HTTPSlot + ".config_reload",
		rbac.TCPSlot:  "extension_config_discovery.network_filter." + rbac.TCPSlot + ".config_reload",
	}
	const attempts = 40
	for i := range attempts {
		good, bad, salt := rbac.HTTPSlot, rbac.TCPSlot, strconv.Itoa(i) // in bytes that Envoy did not see before
		if i%2 == 1 {
			good, bad = bad, good
		}
		pair := []*xds.Resource{salted(t, slot(t, good, allow), salt), salted(t, slot(t, bad, refuse), salt)}
		if i%4 > 1 {
			slices.Reverse(pair)
		}
		before := p.Stat(loads[good])
		together.updates <- pair
		<-together.refused
		if p.Stat(loads[good]) == before {
			return
		}
	}
	t.Errorf("the good slot came into force beside a bad one %d times of %d", attempts, attempts)
}

// togetherServer sends its slots in one response, as often as it gets some.
type togetherServer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	base    []*xds.Resource
	updates chan []*xds.Resource
	refused chan string
}

func (s *togetherServer) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	subscribed := make(chan struct{})
	slotsWanted := subscribed
	wanted := map[string]bool{}
	received := make(chan error, 1)
	requests := make(chan string, 16)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				received <- err
				return
			}
			if r.GetErrorDetail() != nil {
				s.refused <- r.GetErrorDetail().GetMessage()
			}
			both := wanted[rbac.HTTPSlot] && wanted[rbac.TCPSlot]
			for _, name := range r.GetResourceNamesSubscribe() {
				wanted[name] = true
			}
			if !both && wanted[rbac.HTTPSlot] && wanted[rbac.TCPSlot] {
				close(subscribed)
			}
			if r.GetResponseNonce() == "" && r.GetTypeUrl() != xds.ExtensionConfigType {
				requests <- r.GetTypeUrl()
			}
		}
	}()
	var updates chan []*xds.Resource // nil until the slots are wanted
	for {
		var typeURL string
		var resources []*xds.Resource
		select {
		case <-slotsWanted:
			slotsWanted, updates = nil, s.updates
			continue
		case err := <-received:
			return err
		case typeURL = <-requests:
			resources = s.base
		case resources = <-updates:
			typeURL = xds.ExtensionConfigType
		}
		out := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: "n"}
		for _, res := range resources {
			if res.Type == typeURL {
				out.Resources = append(out.Resources, &discoveryv3.Resource{Name: res.Name, Version: res.Version, Resource: res.Any()})
			}
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

// A control plane that dies leaves enforcement as it was, and its return changes nothing and sends nothing that the proxy has.
func TestReturnOfTheControlPlaneSendsNothing(t *testing.T) {
	t.Parallel()
	for _, protocol := range []bootstrap.Protocol{bootstrap.DeltaGRPC, bootstrap.StateOfTheWorld} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			p := newProxied(t, protocol)
			r := start(t, p.path, salter(true))
			r.cache.Set(p.state(allow, deny))
			r.eventually(rbac.HTTPSlot, xds.StateEnforced)
			r.eventually(rbac.TCPSlot, xds.StateEnforced)
			p.answers(admitted)
			before := p.Stat("extension_config_discovery.http_filter." + rbac.HTTPSlot + ".config_reload")
			r.kill()
			p.answers(admitted)

			registry := prometheus.NewRegistry()
			again := startWith(t, p.path, xds.Config{Salter: salter(true), Metrics: xds.NewMetrics(registry)}, xds.ServerConfig{})
			again.connected(node)
			again.cache.Set(p.state(allow, deny))
			again.eventually(rbac.HTTPSlot, xds.StateEnforced)
			again.eventually(rbac.TCPSlot, xds.StateEnforced)
			if n := p.Stat("listener_manager.listener_modified"); n != 0 {
				t.Errorf("%d listeners were modified", n)
			}
			if after := p.Stat("extension_config_discovery.http_filter." + rbac.HTTPSlot + ".config_reload"); after != before {
				t.Errorf("the slot was loaded %d times, then %d", before, after)
			}
			if n := gauge(t, registry, "pilot_lite_pushes_total"); n != 0 {
				t.Errorf("%d responses were sent, want none", n)
			}
			p.answers(admitted)
		})
	}
}

// A proxy whose pod is gone from a complete snapshot is shut: its slots deny, its listeners stay.
func TestAProxyWhosePodIsGoneIsShut(t *testing.T) {
	t.Parallel()
	for _, protocol := range []bootstrap.Protocol{bootstrap.DeltaGRPC, bootstrap.StateOfTheWorld} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			p := newProxied(t, protocol)
			r := start(t, p.path, salter(true))
			r.cache.Set(p.state(allow, allow))
			r.eventually(rbac.HTTPSlot, xds.StateEnforced)
			p.answers(admitted)
			r.cache.Set(xds.Update{})
			p.answers(denied)
			r.cache.Set(p.state(allow, allow))
			p.answers(admitted)
		})
	}
}

// A listener that changes while the content of its slot stands refused comes up, with the content that the proxy took last.
func TestAListenerComesUpBesideARefusal(t *testing.T) {
	t.Parallel()
	for _, protocol := range []bootstrap.Protocol{bootstrap.DeltaGRPC, bootstrap.StateOfTheWorld} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			p := newProxied(t, protocol)
			r := refusedAfterGood(p, salter(true))
			port := uint32(porttest.Free(t, "127.78.0.1"))
			state := p.state(refuse, deny)
			for _, m := range p.base {
				l, isListener := m.(*listenerv3.Listener)
				if !isListener || !strings.HasSuffix(p.url, fmt.Sprint(":", l.GetAddress().GetSocketAddress().GetPortValue())) {
					continue
				}
				added := proto.Clone(l).(*listenerv3.Listener)
				added.Name = "added"
				added.GetAddress().GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: port}
				state.Workloads["w"] = append(state.Workloads["w"], resource(t, added))
			}
			r.cache.Set(state)
			r.becomes("added", xds.StateEnforced)
			p.url = fmt.Sprint("http://127.78.0.1:", port)
			p.answers(admitted)
			if got := r.status(rbac.HTTPSlot).State; got != xds.StateRefused {
				t.Errorf("what was refused is %s", got)
			}
		})
	}
}
