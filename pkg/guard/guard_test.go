package guard_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/diff"
	"github.com/pilot-lite/pilot-lite/pkg/guard"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// source has a snapshot, or none yet.
type source struct{ snapshot *model.Snapshot }

func (s source) Snapshot() (*model.Snapshot, bool) { return s.snapshot, s.snapshot != nil }

func world(guarded bool, policies ...*model.Policy) source {
	pod := func(name, address string) *model.Pod {
		return &model.Pod{Namespace: "shop", Name: name, Owner: name, Labels: map[string]string{"app": name}, Addresses: []netip.Addr{netip.MustParseAddr(address)}}
	}
	return source{&model.Snapshot{
		Namespaces: []model.Namespace{{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop"}, Guarded: guarded}},
		Services: []model.Service{{Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "cart"}, Ports: []model.ServicePort{
			{Name: "http", Port: 80, TargetPort: 80, Protocol: model.TCP},
		}}},
		Pods: []*model.Pod{pod("cart", "10.0.0.1"), pod("front", "10.0.0.2")}, Policies: policies,
	}}
}

// policy lets somebody in, to a host of some name.
func policy(from, host string) *model.Policy {
	p := &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: "cart"}, Action: model.Allow, Selector: labels.SelectorFromSet(labels.Set{"app": "cart"}), IsolatesIngress: true, Accepted: true,
	}
	if from != "" {
		p.Ingress = []model.Rule{{Name: "0", Peers: []model.Peer{{Pods: labels.SelectorFromSet(labels.Set{"app": from})}}}}
	}
	if host != "" {
		p.Ingress[0].HTTP = []model.HTTPMatch{{Hosts: []model.Host{{Name: host}}}}
	}
	return p
}

func TestOpens(t *testing.T) {
	t.Parallel()
	guarding := policy("", "")
	guarding.Guarded = true
	for name, test := range map[string]struct {
		source        source
		before, after *model.Policy
		want          string // in the first of what opens; "" where nothing does
	}{
		"an edit that opens":                   {world(true, policy("", "")), policy("", ""), policy("front", ""), "opens on L7 every TCP port but 80, 15000-15099 from shop/front to shop/cart"},
		"of what is not guarded":               {world(false, policy("", "")), policy("", ""), policy("front", ""), ""},
		"an edit that closes":                  {world(true, policy("front", "")), policy("front", ""), policy("", ""), ""},
		"a policy guards":                      {world(false, guarding), guarding, policy("front", ""), "guarded by L7Policy shop/cart"},
		"the source lags: the guard is new":    {world(false), guarding, policy("front", ""), "guarded by L7Policy shop/cart"},
		"the source lags: it is as after":      {world(true, policy("front", "")), policy("", ""), policy("front", ""), "opens"},
		"made: closes":                         {world(true), nil, policy("front", ""), ""},
		"made beside another: opens":           {world(true, other()), nil, policy("front", ""), "opens"},
		"deleted":                              {world(true, policy("front", "")), policy("front", ""), nil, "opens on L7"},
		"a host has all spellings of its name": {world(true, policy("front", "cart")), policy("front", "cart"), policy("front", "cart.shop"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := guard.New(test.source).Opens(t.Context(), test.before, test.after)
			if err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(got, "\n"); !strings.Contains(text, test.want) || test.want == "" && text != "" {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}

// other isolates the same pods.
func other() *model.Policy {
	p := policy("", "")
	p.Name = "other"
	return p
}

func TestNothingIsKnownBeforeEverythingWasRead(t *testing.T) {
	t.Parallel()
	if _, err := guard.New(source{}).Opens(t.Context(), nil, policy("front", "")); err == nil {
		t.Error("want an error")
	}
}

// An answer that does not come in time is an error, and so is one behind it; what is not guarded does not wait. The comparison is told to stop, and others follow.
func TestOpensIsBounded(t *testing.T) {
	t.Parallel()
	late := errors.New("too late")
	ctx, cancel := context.WithCancelCause(t.Context())
	told, slow := make(chan struct{}), make(chan struct{})
	g := guard.New(world(true, policy("", ""))).Comparing(func(_, _ *model.Index, stop func() bool) ([]diff.Flip, bool) {
		cancel(late)
		<-slow
		if !stop() {
			t.Error("the comparison may go on though nobody waits for it")
		}
		close(told)
		return nil, false
	})
	for range 2 {
		if _, err := g.Opens(ctx, policy("", ""), policy("front", "")); !errors.Is(err, late) {
			t.Errorf("got %v", err)
		}
	}
	elsewhere := policy("front", "")
	elsewhere.Namespace = "web"
	if opens, err := g.Opens(ctx, nil, elsewhere); err != nil || opens != nil {
		t.Errorf("got %v, %v", opens, err)
	}
	close(slow)
	<-told
}

func TestAFaultIsAnError(t *testing.T) {
	t.Parallel()
	g := guard.New(world(true, policy("", ""))).Comparing(func(_, _ *model.Index, _ func() bool) ([]diff.Flip, bool) { panic("a bug") })
	for range 2 { // the second finds the first's seat free
		if _, err := g.Opens(t.Context(), policy("", ""), policy("front", "")); err == nil || !strings.Contains(err.Error(), "a bug") {
			t.Errorf("got %v", err)
		}
	}
}
