package rbac_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// salt is a slot as it is read by whom it is sent to under a salt.
func salt(t *testing.T, slot *corev3.TypedExtensionConfig, text string) *corev3.TypedExtensionConfig {
	t.Helper()
	out := &corev3.TypedExtensionConfig{}
	if err := proto.Unmarshal(bytes.Join(rbac.Salt(slot, text), nil), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A salt changes the bytes and nothing else, on every kind of slot, salted before or not.
func TestSaltMeansNothing(t *testing.T) {
	t.Parallel()
	inputs := []rbac.Input{{}, {Policies: []rbac.Policy{{Action: model.Deny}}}}
	for seed := range uint64(5) {
		inputs = append(inputs, randomInput(seed))
	}
	for i, in := range inputs {
		slots := rbac.Compile(in)
		salted := rbac.Slots{HTTP: salt(t, salt(t, slots.HTTP, "first"), "second"), TCP: salt(t, slots.TCP, "second")}
		if proto.Equal(slots.HTTP, salted.HTTP) || proto.Equal(slots.TCP, salted.TCP) {
			t.Fatalf("input %d: the bytes are the same", i)
		}
		http, tcp := open(t, slots)
		saltedHTTP, saltedTCP := open(t, salted)
		for _, m := range []*xdsmatcherv3.Matcher{saltedHTTP.GetMatcher(), saltedTCP.GetMatcher()} {
			for m.GetOnNoMatch().GetMatcher() != nil {
				m = m.GetOnNoMatch().GetMatcher()
			}
			action := m.GetOnNoMatch().GetAction()
			if action.GetName() != "second" {
				t.Fatalf("input %d: the salt is not at the last action: %v", i, action)
			}
			action.Name = "action"
		}
		if !proto.Equal(http, saltedHTTP) || !proto.Equal(tcp, saltedTCP) {
			t.Fatalf("input %d: the salt changed more than a name", i)
		}
	}
}

// Envoy answers content that it refused before with an ACK, without looking at it. Under a salt it looks again.
func TestSaltMakesEnvoyLookAgain(t *testing.T) {
	t.Parallel()
	snapshot := &model.Snapshot{}
	f := newFixture(t, snapshot, "salt", 1000)
	ix := model.NewIndex(snapshot)
	server := startSlotServer(t, translate.Translate(ix).Workloads[0].Resources)

	good := rbac.Compile(rbac.Input{Policies: []rbac.Policy{{Action: model.Allow, Rules: []rbac.Rule{{Name: "all"}}}}}).HTTP
	bad := refusable(t)
	for _, step := range []struct {
		name    string
		content *corev3.TypedExtensionConfig
		refused bool
	}{
		{"bad content is refused", bad, true},
		{"the same again is not looked at", bad, false},
		{"salted it is", salt(t, bad, "one"), true},
		{"good content is taken", good, false},
		{"so is the same under a salt", salt(t, good, "one"), false},
	} {
		if problem := server.offer(t, step.content); (problem != "") != step.refused {
			t.Fatalf("%s: refused for %q", step.name, problem)
		}
	}
	// Content is in force soon after it was accepted, once every worker has it.
	who := &callee{app: f.app, listen: map[uint16]netip.AddrPort{1000: f.listen}}
	server.envoy.Eventually("the salted content is in force", func() error {
		allowed, err := who.ask(t, model.Request{Source: callerAddress(0), Port: 1000, HTTP: &model.HTTPRequest{Method: "GET", Host: "a", Path: "/"}}, false)
		if err == nil && !allowed {
			err = errors.New("the request is denied")
		}
		return err
	})
}

// refusable is content that passes every check of the message and that Envoy cannot build: a broken expression.
func refusable(t *testing.T) *corev3.TypedExtensionConfig {
	t.Helper()
	slot := rbac.Compile(rbac.Input{Policies: []rbac.Policy{{Action: model.Allow}}}).HTTP
	http := &rbacv3.RBAC{}
	if err := slot.GetTypedConfig().UnmarshalTo(http); err != nil {
		t.Fatal(err)
	}
	for _, m := range http.GetMatcher().GetMatcherList().GetMatchers() {
		if r := m.GetPredicate().GetSinglePredicate().GetValueMatch().GetSafeRegex(); r != nil {
			r.Regex = "("
		}
	}
	packed, err := anypb.New(http)
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.TypedExtensionConfig{Name: rbac.HTTPSlot, TypedConfig: packed}
}

// slotServer serves listeners and clusters once, and the HTTP slot step by step.
type slotServer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	envoy     *envoytest.Envoy
	resources map[string][]*discoveryv3.Resource
	offers    chan *corev3.TypedExtensionConfig
	answers   chan string
}

func startSlotServer(t *testing.T, resources []translate.Resource) *slotServer {
	t.Helper()
	s := &slotServer{resources: map[string][]*discoveryv3.Resource{}, offers: make(chan *corev3.TypedExtensionConfig), answers: make(chan string)}
	for _, r := range resources {
		packed, err := anypb.New(r.Message)
		if err != nil {
			t.Fatal(err)
		}
		if named, ok := r.Message.(interface{ GetName() string }); ok {
			s.resources[packed.GetTypeUrl()] = append(s.resources[packed.GetTypeUrl()], &discoveryv3.Resource{Name: named.GetName(), Version: "1", Resource: packed})
		}
	}
	admin := envoytest.AdminSocket(t)
	socket := filepath.Join(filepath.Dir(admin), "xds")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	config, err := bootstrap.Build(bootstrap.Config{Namespace: "test", Pod: "test", Server: "unix:" + socket, Admin: "unix:" + admin})
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	s.envoy = envoytest.Start(t, string(text), admin)
	return s
}

// offer sends content and returns why it was refused, or "".
func (s *slotServer) offer(t *testing.T, content *corev3.TypedExtensionConfig) string {
	t.Helper()
	timeout := time.After(10 * time.Second)
	select {
	case s.offers <- content:
	case <-timeout:
		t.Fatalf("Envoy never asked for the slot\n%s", s.envoy.Log())
	}
	select {
	case answer := <-s.answers:
		return answer
	case <-timeout:
		t.Fatal("Envoy never answered")
	}
	return ""
}

// DeltaAggregatedResources serves one stream.
func (s *slotServer) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	offered := false
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		switch {
		case req.GetResponseNonce() != "" && strings.HasPrefix(req.GetResponseNonce(), "slot"):
			s.answers <- req.GetErrorDetail().GetMessage()
		case req.GetResponseNonce() != "":
		case req.GetTypeUrl() != resourcev3.ExtensionConfigType:
			if err := stream.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: req.GetTypeUrl(), Nonce: "first", Resources: s.resources[req.GetTypeUrl()]}); err != nil {
				return err
			}
		case !offered:
			offered = true
			go s.serveOffers(stream.Context(), stream)
		}
	}
}

func (s *slotServer) serveOffers(ctx context.Context, stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) {
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case content := <-s.offers:
			packed, err := anypb.New(content)
			if err == nil {
				err = stream.Send(&discoveryv3.DeltaDiscoveryResponse{
					TypeUrl: resourcev3.ExtensionConfigType, Nonce: fmt.Sprintf("slot-%d", n),
					Resources: []*discoveryv3.Resource{{Name: content.GetName(), Version: fmt.Sprint(n), Resource: packed}},
				})
			}
			if err != nil {
				return
			}
		}
	}
}
