package rbac_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/internal/rulemix"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// What is written has no field that its messages do not know, and nothing that marshalling them would leave out.
func TestSlotsAreWrittenAsMarshalled(t *testing.T) {
	t.Parallel()
	inputs := []rbac.Input{{}}
	for seed := range uint64(60) {
		inputs = append(inputs, randomInput(seed))
	}
	for _, m := range rulemix.Mixes() {
		policies := m.Policies(40)
		inputs = append(inputs, rbac.Input{Policies: rulemix.Resolve(model.NewIndex(&model.Snapshot{Pods: m.Pods(), Policies: policies}), policies)})
	}
	var messages []*corev3.TypedExtensionConfig
	for _, in := range inputs {
		slots := rbac.Compile(in)
		messages = append(messages, slots.HTTP, slots.TCP)
	}
	for _, blocks := range []string{"0.0.0.0/0", "::/0", "10.0.0.0/8", "2001:db8::/127"} {
		messages = append(messages, new(rbac.Compiler).Metrics(&rbac.Sources{
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")},
			Blocks:    []model.IPBlock{{CIDR: netip.MustParsePrefix(blocks), Except: []netip.Prefix{netip.MustParsePrefix(blocks)}}, {CIDR: netip.MustParsePrefix(blocks)}},
		}))
	}
	for i, m := range messages {
		sameLength(t, m.GetTypedConfig())
		if t.Failed() {
			t.Fatalf("message %d", i)
		}
	}
}

// sameLength marshals what is in an Any, and in those within, anew.
func sameLength(t *testing.T, packed *anypb.Any) {
	t.Helper()
	m, err := packed.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	again, err := proto.Marshal(m)
	if err != nil || len(again) != len(packed.GetValue()) {
		t.Errorf("%s: %d bytes are written, %d marshalled: %v", packed.GetTypeUrl(), len(packed.GetValue()), len(again), err)
	}
	walk(t, m.ProtoReflect())
}

func walk(t *testing.T, m protoreflect.Message) {
	t.Helper()
	if packed, is := m.Interface().(*anypb.Any); is {
		sameLength(t, packed)
		return
	}
	if len(m.GetUnknown()) > 0 {
		t.Errorf("%s has a field that it does not know", m.Descriptor().FullName())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				walk(t, v.Message())
				return true
			})
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				walk(t, v.List().Get(i).Message())
			}
		default:
			walk(t, v.Message())
		}
		return true
	})
}

// What is lowered after something else is what is lowered first, to the byte: whatever of a policy changed, and whichever way.
func TestLoweredAfterIsLowered(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 6))
		in, c := randomInput(seed), new(rbac.Compiler)
		before := make([]*rbac.Lowered, len(in.Policies))
		for round := range 8 {
			ports := [][]rbac.PortMap{nil, {{Policy: 1000, Socket: 2000}}}[r.IntN(2)]
			for i := range in.Policies {
				p := &in.Policies[i]
				switch {
				case round == 0:
				case r.IntN(6) == 0:
					p.Action = pick(&generator{Rand: r}, model.Allow, model.Deny)
				case r.IntN(6) == 0:
					p.DryRun, p.Ref.Name = !p.DryRun, p.Ref.Name+"x"
				default:
					p.Rules = edited(r, p.Rules)
				}
				before[i] = c.LowerAfter(&in.Policies[i], before[i])
			}
			got, want := c.Compile(before, ports), rbac.Compile(rbac.Input{Policies: in.Policies, Ports: ports})
			if !proto.Equal(got.HTTP, want.HTTP) || !proto.Equal(got.TCP, want.TCP) || !slices.Equal(got.Diagnostics, want.Diagnostics) {
				t.Fatalf("seed %d, round %d: the slots differ", seed, round)
			}
		}
	}
}

// edited are rules after an edit of each kind that there is. Lists are replaced, not changed, as snapshots do it.
func edited(r *rand.Rand, rules []rbac.Rule) []rbac.Rule {
	out := slices.Clone(rules)
	for range 1 + r.IntN(4) {
		if len(out) == 0 {
			return []rbac.Rule{{Name: "new"}}
		}
		i := r.IntN(len(out))
		switch rule := &out[i]; r.IntN(9) {
		case 0:
			rule.Sources = nil
		case 1:
			rule.Sources = &rbac.Sources{}
		case 2, 3:
			rule.Sources = &rbac.Sources{}
			for a := range 1 + r.IntN(12) {
				rule.Sources.Addresses = append(rule.Sources.Addresses, netip.AddrFrom4([4]byte{10, 1, byte(r.IntN(3)), byte(a)}))
			}
			slices.SortFunc(rule.Sources.Addresses, netip.Addr.Compare)
			rule.Sources.Addresses = slices.Compact(rule.Sources.Addresses)
		case 4:
			rule.Ports = [][]model.PortRange{nil, {}, {{Protocol: model.TCP, From: 1000, To: 1001}}, {{Protocol: model.UDP, From: 1, To: 2}}}[r.IntN(4)]
		case 5:
			rule.HTTP = [][]model.HTTPMatch{nil, {}, out[r.IntN(len(out))].HTTP}[r.IntN(3)]
		case 6:
			rule.Name += "x"
		case 7:
			out = slices.Delete(out, i, i+1)
		case 8:
			out = slices.Insert(out, i, out[r.IntN(len(out))])
		}
	}
	return out
}

// A rule that somebody else calls costs no more than its callers, and one that the same call nothing. Not parallel: allocations are counted.
func TestOtherCallersCostNoWords(t *testing.T) {
	const most = 40 // of 5 rules; read anew, they take more than 100
	p := fiveRules("cart", 1)
	other := p
	other.Rules = slices.Clone(p.Rules)
	other.Rules[3].Sources = &rbac.Sources{Addresses: p.Rules[3].Sources.Addresses[1:]}
	c := new(rbac.Compiler)
	lowered := c.Lower(&p)
	first := testing.AllocsPerRun(20, func() { c.Lower(&p) })
	if again := testing.AllocsPerRun(20, func() { c.LowerAfter(&other, lowered) }); again > most || first < 2*most {
		t.Errorf("%.0f allocations, want at most %d; %.0f from nothing", again, most, first)
	}
}
