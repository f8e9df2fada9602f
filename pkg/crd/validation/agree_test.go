package validation_test

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/json"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
)

// FuzzSchemaAgrees: nothing makes Validate panic, and a cluster accepts every policy that passes, so that what is tried with files can be applied.
func FuzzSchemaAgrees(f *testing.F) {
	for _, dir := range []string{"good", "bad"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			f.Fatalf("no examples in %s: %v", dir, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var p v1alpha1.L7Policy
		if len(data) < 1<<16 && yaml.UnmarshalStrict(data, &p) == nil {
			agree(t, t.Errorf, server, &p)
		}
	})
}

// The same for every kind of value, drawn from the characters that decide.
func TestSchemaAgrees(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	word := rapid.StringOfN(rapid.SampledFrom([]rune("aaZz09-._~*:/[]%?#;,\\ @=(){}|^$!'\"<>`\té")), 0, 8, -1)
	cidr := rapid.Custom(func(t *rapid.T) v1alpha1.CIDR {
		address := rapid.SampledFrom([]string{
			"10.0.0.0", "010.0.0.0", "10.0.0.1", "0.0.0.0", "::", "2001:DB8::", "2001:0db8:0:0::0", "::ffff:10.0.0.0", "::ffff:0:0", "fe80::%1",
		}).Draw(t, "address")
		return v1alpha1.CIDR(address + rapid.SampledFrom([]string{"/0", "/8", "/08", "/24", "/32", "/96", "/128", "/129", "/-1", ""}).Draw(t, "length"))
	})
	passed := 0
	rapid.Check(t, func(r *rapid.T) {
		w, c := word.Draw(r, "word"), cidr.Draw(r, "cidr")
		port, number, end := intstr.FromString(w), intstr.FromInt32(rapid.Int32Range(-1, 65537).Draw(r, "port")), rapid.Int32Range(-1, 65537).Draw(r, "end")
		with := func(spec v1alpha1.L7PolicySpec) *v1alpha1.L7Policy {
			p := &v1alpha1.L7Policy{Spec: spec}
			p.APIVersion, p.Kind, p.Name = v1alpha1.SchemeGroupVersion().String(), v1alpha1.Kind, "a"
			return p
		}
		rule := func(r v1alpha1.IngressRule) *v1alpha1.L7Policy {
			return with(v1alpha1.L7PolicySpec{Ingress: []v1alpha1.IngressRule{r}})
		}
		match := func(m v1alpha1.HTTPMatch) *v1alpha1.L7Policy {
			return rule(v1alpha1.IngressRule{HTTP: []v1alpha1.HTTPMatch{m}})
		}
		header := func(h v1alpha1.HeaderMatch) *v1alpha1.L7Policy {
			return match(v1alpha1.HTTPMatch{Headers: []v1alpha1.HeaderMatch{h}})
		}
		from := func(p v1alpha1.Peer) *v1alpha1.L7Policy { return rule(v1alpha1.IngressRule{From: []v1alpha1.Peer{p}}) }
		for _, p := range []*v1alpha1.L7Policy{
			rule(v1alpha1.IngressRule{Name: v1alpha1.RuleName(w)}),
			rule(v1alpha1.IngressRule{Ports: []v1alpha1.Port{{Port: &port}}}),
			rule(v1alpha1.IngressRule{Ports: []v1alpha1.Port{{Port: &number, EndPort: &end}}}),
			match(v1alpha1.HTTPMatch{Hosts: []string{w}}),
			match(v1alpha1.HTTPMatch{Hosts: []string{"*." + w}}),
			match(v1alpha1.HTTPMatch{Methods: []string{w}}),
			match(v1alpha1.HTTPMatch{Paths: []v1alpha1.PathMatch{{Value: "/" + w}}}),
			match(v1alpha1.HTTPMatch{Paths: []v1alpha1.PathMatch{{Type: v1alpha1.PathRegularExpression, Value: w}}}),
			header(v1alpha1.HeaderMatch{Name: w, Value: "a"}),
			header(v1alpha1.HeaderMatch{Name: "a", Value: w}),
			header(v1alpha1.HeaderMatch{Name: "a", Type: v1alpha1.HeaderRegularExpression, Value: w}),
			from(v1alpha1.Peer{IPBlock: &v1alpha1.IPBlock{CIDR: c}}),
			from(v1alpha1.Peer{IPBlock: &v1alpha1.IPBlock{CIDR: "::/0", Except: []v1alpha1.CIDR{c}}}),
			from(v1alpha1.Peer{IPBlock: &v1alpha1.IPBlock{CIDR: "0.0.0.0/0", Except: []v1alpha1.CIDR{c}}}),
			from(v1alpha1.Peer{ServiceAccounts: []v1alpha1.ServiceAccountRef{{Name: w}}}),
			with(v1alpha1.L7PolicySpec{PodSelector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"a": v1alpha1.LabelValue(w)}}}),
			with(v1alpha1.L7PolicySpec{PodSelector: v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: w, Operator: "Exists"}}}}),
		} {
			if agree(t, r.Errorf, server, p) {
				passed++
			}
		}
	})
	if passed < 100 {
		t.Errorf("only %d policies passed: nothing was compared", passed)
	}
}

// agree reports a policy that passes Validate and that the API server refuses or prunes. It says whether it passes.
func agree(t testing.TB, report func(format string, args ...any), server *apiServer, p *v1alpha1.L7Policy) bool {
	t.Helper()
	if validation.Validate(p) != nil {
		return false
	}
	// What a client would send, rather than what was written: YAML has spellings that JSON has not.
	sent, err := json.Marshal(p)
	if err != nil {
		report("marshal: %v", err)
		return false
	}
	if pruned, errs := server.create(t, decode(t, sent)); len(errs) > 0 || len(pruned) > 0 {
		report("passes, but the API server prunes %v and says: %v\n%s", pruned, errs.ToAggregate(), sent)
	}
	return true
}
