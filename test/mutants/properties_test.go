package mutants_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/worldgen"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

func labelsOf(w *model.Workload) labels.Set { return labels.Set(w.Labels) }

// property says how resources are not what a world's policies mean; "" where they are.
type property struct {
	name  string
	holds func(w *world, resources []proto.Message) string
}

func properties() []property {
	return []property{{"filters", filtersAgree}, {"sidecar", sidecarAgrees}, {"readings", oneReading}, {"shape", shape}}
}

// violated is the first property that does not hold.
func violated(w *world, resources []proto.Message) string {
	for _, p := range properties() {
		if found := p.holds(w, resources); found != "" {
			return p.name + ": " + found
		}
	}
	return ""
}

func slotOf(resources []proto.Message, name string) *corev3.TypedExtensionConfig {
	for _, r := range resources {
		if s, ok := r.(*corev3.TypedExtensionConfig); ok && s.GetName() == name {
			return s
		}
	}
	return nil
}

// shape: what Envoy would refuse is not sent, no filter has rules (beside a matcher Envoy ignores them), and whatever comes before the slots' content, or in its place, denies.
func shape(w *world, resources []proto.Message) string {
	for _, r := range resources {
		if err := r.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
			return err.Error()
		}
	}
	http, tcp := &rbacv3.RBAC{}, &networkrbacv3.RBAC{}
	if err := slotOf(resources, rbac.HTTPSlot).GetTypedConfig().UnmarshalTo(http); err != nil {
		return err.Error()
	}
	if err := slotOf(resources, rbac.TCPSlot).GetTypedConfig().UnmarshalTo(tcp); err != nil {
		return err.Error()
	}
	if http.GetRules() != nil || http.GetShadowRules() != nil || tcp.GetRules() != nil || tcp.GetShadowRules() != nil {
		return "a filter has rules"
	}
	if http.GetMatcher() == nil || tcp.GetMatcher() == nil {
		return "a filter without a matcher enforces nothing"
	}
	var unfilled []proto.Message
	for _, r := range resources {
		if s, ok := r.(*corev3.TypedExtensionConfig); !ok || s.GetName() != rbac.HTTPSlot && s.GetName() != rbac.TCPSlot {
			unfilled = append(unfilled, r)
		}
	}
	sidecar, err := envoy.NewSidecar(unfilled...)
	if err != nil {
		return err.Error()
	}
	for _, a := range w.asks {
		if got := sidecar.Decide(w.call(&a)); got.Allowed {
			return fmt.Sprintf("without policies %+v is allowed: %+v", a.request, got)
		} else if got.Outcome == envoy.Decided && got.Name != model.OutcomeUnknown {
			return fmt.Sprintf("without policies %+v is denied by %s", a.request, got.Name)
		}
	}
	return ""
}

// call is an ask as it is sent, or, where it cannot be, as it arrives.
func (w *world) call(a *ask) *envoy.Call {
	c := &envoy.Call{Source: a.request.Source, Port: w.socket(a.request.Port), HTTP: a.request.HTTP}
	if a.sent != "" {
		sent := *a.request.HTTP
		sent.Path = a.sent
		c.HTTP = &sent
	}
	return c
}

// filtersAgree: the filters give the policies' verdict on every request and port, in force and in dry run, and name who decided.
func filtersAgree(w *world, resources []proto.Message) string {
	http, err := envoy.Unpack(slotOf(resources, rbac.HTTPSlot).GetTypedConfig())
	if err != nil {
		return err.Error()
	}
	tcp, err := envoy.Unpack(slotOf(resources, rbac.TCPSlot).GetTypedConfig())
	if err != nil {
		return err.Error()
	}
	for _, a := range w.asks {
		f := tcp
		if a.request.HTTP != nil {
			f = http
		}
		r := &envoy.Request{Source: a.request.Source, Port: w.socket(a.request.Port), HTTP: a.request.HTTP}
		if found := w.compare(&a, a.want, f.Decide(r)); found != "" {
			return found
		}
		shadow, has := f.Shadow(r)
		if has != w.dry {
			return fmt.Sprintf("a shadow: %t, DryRun policies: %t", has, w.dry)
		}
		if !has {
			continue
		}
		if found := w.compare(&a, a.dry, shadow); found != "" {
			return "dry run: " + found
		}
	}
	return ""
}

// compare says where a decision is not the wanted verdict. Where several rules match, the filter may name another one than the evaluator: one that does match.
func (w *world) compare(a *ask, want model.Verdict, got envoy.Decision) string {
	rule := func(name string) bool { return strings.Contains(name, "/") }
	switch {
	case got.Err != nil:
		return got.Err.Error()
	case got.Allowed != want.Allowed, got.Name != want.Decider && (!rule(got.Name) || !rule(want.Decider)):
	case got.Name != want.Decider && w.alone(a, got.Name).Decider != got.Name:
	default:
		return ""
	}
	return fmt.Sprintf("%+v %+v: the filter says %+v, the policies %+v", a.request, a.request.HTTP, got, want)
}

// alone is the verdict if a rule stood alone, in force.
func (w *world) alone(a *ask, name string) model.Verdict {
	s := *w.snapshot
	s.Policies = nil
	for _, p := range w.snapshot.Policies {
		for _, r := range p.Ingress {
			if model.RuleName(p.PolicyRef, r.Name) == name {
				one := *p
				one.Ingress, one.DryRun = []model.Rule{r}, false
				s.Policies = append(s.Policies, &one)
				break
			}
		}
	}
	ix := model.NewIndex(&s)
	return eval.Ingress(ix, ix.WorkloadOf("shop", "cart"), a.request)
}

// sidecarAgrees: the chain that takes a call gives the policies' verdict on what arrives of it. Ports of the sidecar's own are closed to all. What a governed callee is sent has one reading.
func sidecarAgrees(w *world, resources []proto.Message) string {
	sidecar, err := envoy.NewSidecar(resources...)
	if err != nil {
		return err.Error()
	}
	for _, a := range w.asks {
		got := sidecar.Decide(w.call(&a))
		closed := len(w.callee.Proxy.Bound) == 0 && a.request.Port >= model.ReservedFirst && a.request.Port <= model.ReservedLast
		switch {
		case got.Err != nil:
			return got.Err.Error()
		case a.request.HTTP != nil && a.sent == "":
		case got.Refusal != nil:
			return fmt.Sprintf("%+v %+v is refused: %s", a.request, a.request.HTTP, got.Refusal.Reason)
		case got.Allowed != (a.want.Allowed && !closed), !closed && (got.Name == "") != (a.want.Decider == ""):
			return fmt.Sprintf("%+v %+v, sent to %q: the sidecar says %+v, the policies %+v", a.request, a.request.HTTP, a.sent, got, a.want)
		case sidecar.Shadow(w.call(&a)).Allowed != (a.dry.Allowed && !closed):
			return fmt.Sprintf("%+v %+v: the sidecar's shadow says %+v, the policies %+v", a.request, a.request.HTTP, sidecar.Shadow(w.call(&a)), a.dry)
		case a.request.HTTP != nil && got.Seen == nil:
			return fmt.Sprintf("nobody reads %+v as HTTP: %+v", a.request.HTTP, got)
		case a.request.HTTP != nil && got.Seen.Path != a.request.HTTP.Path:
			return fmt.Sprintf("%q arrives as %q", a.sent, got.Seen.Path)
		}
	}
	return ""
}

// oneReading: whatever spelling a caller chooses, a request that a governed sidecar lets through has a path that every application reads alike, and no header whose name some read as
// another's.
func oneReading(w *world, resources []proto.Message) string {
	sidecar, err := envoy.NewSidecar(resources...)
	if err != nil {
		return err.Error()
	}
	port := w.socket(worldgen.HTTPPort)
	for _, target := range []string{
		"/a/../b", "/a/..%2Fb", "/a%2Fb", "/a%5cb", `/a\..\b`, "/%2e%2e/a", "/a/%2E%2e/b", "/a;/../b", "/a/..;x/b", "/a/%2e.;x/b", "/a/.%2e%3bx/b", "/a%252fb", "/a%00", "/./a", "/a/.", "/a%c0%ae", "/a/%e0%80%ae%e0%80%ae/b", "/a/%f0%80%80%af", "/a/%ed%a0%80", "//..//a",
	} {
		for _, name := range []string{"x-role", "x_role"} {
			got := sidecar.Decide(&envoy.Call{Source: worldgen.Callers()[0], Port: port, HTTP: &model.HTTPRequest{
				Method: "GET", Host: "cart", Path: target, Headers: []model.Header{{Name: name, Value: "admin"}},
			}})
			if !got.Allowed || got.Name == model.OutcomeNotIsolated {
				continue
			}
			if got.Seen == nil || !slices.Equal(lenient(got.Seen.Path), strict(got.Seen.Path)) {
				return fmt.Sprintf("%q is let through as %+v, which has more than one reading", target, got.Seen)
			}
			if slices.ContainsFunc(got.Seen.Headers, func(h model.Header) bool { return strings.Contains(h.Name, "_") }) {
				return "a header with an underscore in its name is let through"
			}
		}
	}
	return ""
}

// strict is how the policies read a path: its segments, each decoded once.
func strict(target string) []string {
	path, _, _ := strings.Cut(target, "?")
	var out []string
	for segment := range strings.SplitSeq(path, "/") {
		decoded, err := url.PathUnescape(segment)
		if err != nil {
			return []string{"malformed"}
		}
		if segment, _, _ = strings.Cut(decoded, ";"); segment != "" {
			out = append(out, segment)
		}
	}
	return out
}

// lenient is how the most forgiving application reads it: everything is decoded first, and dots lead up.
func lenient(target string) []string {
	path, _, _ := strings.Cut(target, "?")
	path, _ = url.PathUnescape(path)
	var out []string
	for segment := range strings.SplitSeq(strings.ReplaceAll(path, `\`, "/"), "/") {
		switch segment, _, _ = strings.Cut(segment, ";"); segment {
		case "", ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, segment)
		}
	}
	return out
}

// What is sent to a sidecar is what the policies mean.
func TestSidecarsDoWhatPoliciesMean(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		if found := violated(w, w.sent); found != "" {
			t.Fatal(found)
		}
	})
}

// FuzzOraclesAgree draws worlds from bytes.
func FuzzOraclesAgree(f *testing.F) {
	const seeds, size = 16, 16 << 10
	for i := range uint64(seeds) {
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], i)
		bytes := make([]byte, size)
		_, _ = rand.NewChaCha8(seed).Read(bytes)
		f.Add(bytes)
	}
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		w := drawWorld(t)
		if found := violated(w, w.sent); found != "" {
			t.Fatal(found)
		}
	}))
}
