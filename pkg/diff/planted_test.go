package diff_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// planted are bugs: what stands in a file, and what stands there instead.
var planted = []struct{ name, file, is, instead, by string }{
	{"an allow that comes first beats a deny", "requests.go", "if r.deny {\n\t\t\treturn Verdict", "if r.deny && allowedBy == \"\" {\n\t\t\treturn Verdict", "TestFlips"},
	{"what the guard refuses is not asked about", "requests.go", "before.guards() != after.guards()", "before.guards() && !after.guards()", "TestFlips"},
	{"terms that go are not asked about", "requests.go", "relevant[i] = was[i] != is[i]", "relevant[i] = is[i] && !was[i]", "TestFlips"},
	{"an http deny denies nothing on TCP", "requests.go", "return r.deny\n\t}\n\tfor", "return false\n\t}\n\tfor", "TestFlips"},
	{"isolation does not count beside terms", "requests.go", "isolated: d.isolated}", "isolated: true}", "TestFlips|TestReports"},
	{"the sidecar's ports are like others", "frame.go", "f.reserved = f.isolated", "f.reserved = false", "TestFlips"},
	{"a port's protocol is the same on all ports", "frame.go", "if p.Protocol == model.AppHTTP {", "if p.Protocol != model.AppTCP || len(f.speaks) > 0 {", "TestFlips"},
	{"frames of the same names are the same", "frame.go", "strconv.Quote(r.name) + r.meaning()", "strconv.Quote(r.name)", "TestFlips"},
	{"a deny by a port's name that is not there denies nothing", "ports.go", "out == nil && action == model.Deny", "out == nil && action == model.Allow", "TestFlips"},
	{"a range ends a port early", "ports.go", "int(r.From), int(r.To)+1", "int(r.From), int(r.To)", "TestFlips"},
	{"ranges are joined over a gap", "ports.go", "int(out[n-1].To)+1", "int(out[n-1].To)+11", "TestFlips"},
	{"a block never ends", "entity.go", "after := lastOf(b).Next(); after.IsValid()", "after := lastOf(b).Next(); after.IsValid() && false", "TestFlips"},
	{"exceptions of a block do not count", "world.go", "return p.Block.CIDR.Contains(a) && !", "return p.Block.CIDR.Contains(a) || ", "TestFlips"},
	{"policies that are dry runs count", "world.go", "!p.DryRun && p.IsolatesIngress", "p.IsolatesIngress", "TestFlips"},
	{"relabelled callers are not seen", "world.go", "return slices.ContainsFunc(c.entities, func(e entity) bool { return e.relabelled() }) ||", "return", "TestFlips"},
	{"relabelled namespaces are not seen", "world.go", "return !maps.Equal(c.before.ix.NamespaceLabels(ns), c.after.ix.NamespaceLabels(ns))", "return false", "TestFlips"},
	{"a policy of other rules is the same", "world.go", "&& reflect.DeepEqual(a.Ingress, b.Ingress)", "", "TestFlips"},
	{"a policy for other pods is the same", "world.go", "reflect.DeepEqual(a.Selector, b.Selector) && reflect", "reflect", "TestFlips"},
	{"any account will do", "world.go", "model.ServiceAccountLabel(name) == stamped", `stamped != ""`, "TestWitnesses"},
	{"a peer without namespaces means all", "world.go", "return name == p.namespace", "return true", "TestWitnesses"},
	{"selectors of several labels are not told apart", "labelspace.go", "r.clauses = append(slices.Clip(r.clauses), q.requirements)\n", "", "TestWitnesses"},
	{"namespaces to come are not thought of", "callers.go", "return append(out, toCome)", "return out", "TestEveryStranger|TestFlips"},
	{"names of namespaces to come are not thought of", "callers.go", "slices.Sorted(maps.Keys(named))...)", ")", "TestEveryStranger|TestFlips"},
	{"rules that go are no difference to strangers", "callers.go", "if matchable && !", "if i >= len(n.before.rules) && matchable && !", "TestFlips"},
	{"a rule has one peer", "callers.go", "for _, s := range slotsOf[i] {\n\t\t\tc.any", "for _, s := range slotsOf[i][:min(1, len(slotsOf[i]))] {\n\t\t\tc.any", "TestEveryStranger|TestFlips"},
	{"addresses that are not known are none", "callers.go", "n.countFloating(a)\n", "", "TestFlips"},
	{"egress is not isolated by default", "network.go", "if len(spec.Egress) > 0 {", "if false {", "TestFlips"},
	{"names of ports beyond are those after the edit", "network.go", "ports := named(e.on(w.side), protocol, port)", "ports := named(e.after, protocol, port)", "TestFlips"},
	{"edited NetworkPolicies are known by their names", "network.go", "&& reflect.DeepEqual(old.object.Spec, now.object.Spec)", "&& (true || reflect.DeepEqual(old.object.Spec, now.object.Spec))", "TestFlips"},
	{"verdicts by different rules are joined", "answer.go", "f.after == o.after && ", "", "TestReports|TestFlips"},
	{"classes of different ports are joined", "answer.go", "key := fmt.Sprint(all)", "key := \"\"", "TestReports"},
	{"ports of different classes are joined", "answer.go", "key := fmt.Sprint(classes)", "key := \"\"", "TestReports"},
	{"the other end is looked at on the wrong side", "group.go", "if f.Effect == EffectCloses {\n\t\tw = g.before", "if f.Effect == EffectOpens {\n\t\tw = g.before", "TestTheOtherEnd"},
	{"guards are those after the edit", "world.go", "snapshot := c.before.ix.Snapshot\n\tfor _, ns", "snapshot := c.after.ix.Snapshot\n\tfor _, ns", "TestGuarded"},
}

// The tests notice planted bugs: each is compiled in, in place of the file that it is in.
func TestPlantedBugsAreNoticed(t *testing.T) {
	if os.Getenv("PLANTED") == "" {
		t.Skip("compiles the package once for each bug: set PLANTED=1, or make planted")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, bug := range planted {
		t.Run(bug.name, func(t *testing.T) {
			file := filepath.Join(dir, bug.file)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), bug.is); n != 1 {
				t.Fatalf("%q stands %d times in %s", bug.is, n, bug.file)
			}
			instead, overlay := filepath.Join(t.TempDir(), bug.file), filepath.Join(t.TempDir(), "overlay.json")
			write(t, instead, []byte(strings.Replace(string(text), bug.is, bug.instead, 1)))
			replaced, err := json.Marshal(map[string]map[string]string{"Replace": {file: instead}})
			if err != nil {
				t.Fatal(err)
			}
			write(t, overlay, replaced)
			cmd := exec.CommandContext(t.Context(), "go", "test", ".", "-overlay", overlay, "-vet=off", "-count=1", "-failfast", "-run", bug.by, "-rapid.checks=2000", "-rapid.shrinktime=0s", "-rapid.nofailfile")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL") {
				t.Errorf("not noticed: %v\n%.2000s", err, out)
			}
		})
	}
}

func write(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
