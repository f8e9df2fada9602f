package translate_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/xds/protoyaml"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files anew and remove those that no case has")
	os.Exit(m.Run())
}

func updating() bool { return flag.Lookup("update").Value.String() == "true" }

// Files of a case that people write; the others are golden.
const (
	inputFile    = "in.yaml"       // what kubectl apply takes
	requestsFile = "requests.yaml" // who may do what: intent, which a golden file cannot state
)

const (
	listenersFile = "listeners.yaml"
	plainCase     = "no-policy"
)

// A folder of testdata is a case. Its input is translated, and what comes out is held against the golden files; its requests are asked of the
// reference evaluator, so that a golden file cannot keep a mistake unseen.
func TestGolden(t *testing.T) {
	t.Parallel()
	cases, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	inputs := map[string]string{}
	plain := render(t, translate.Translate(model.NewIndex(load(t, filepath.Join("testdata", plainCase, inputFile)))))[listenersFile]
	for _, c := range cases {
		dir := filepath.Join("testdata", c.Name())
		in, err := os.ReadFile(filepath.Join(dir, inputFile))
		if err != nil {
			t.Errorf("%s is no case: %v", dir, err)
			continue
		}
		if twin, found := inputs[string(in)]; found {
			t.Errorf("%s has the same input as %s", dir, twin)
		}
		inputs[string(in)] = dir
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			ix := model.NewIndex(load(t, filepath.Join(dir, inputFile)))
			out := translate.Translate(ix)
			rendered := render(t, out)
			// No policy changes a listener, so most cases would repeat what one of them shows.
			if c.Name() != plainCase && rendered[listenersFile] == plain {
				delete(rendered, listenersFile)
			}
			golden(t, dir, rendered)
			for _, r := range readRequests(t, dir) {
				r.check(t, ix, out)
			}
		})
	}
}

// golden holds what was rendered against a case's files, or writes them.
func golden(t *testing.T, dir string, rendered map[string]string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == inputFile || entry.Name() == requestsFile {
			return err
		}
		if _, found := rendered[entry.Name()]; found {
			return nil
		}
		if updating() {
			return os.Remove(path)
		}
		t.Errorf("%s is left over: run with -update", path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range rendered {
		path := filepath.Join(dir, name)
		if updating() {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v: run with -update", err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// render prints an output as one text a kind.
func render(t *testing.T, out *translate.Output) map[string]string {
	t.Helper()
	listeners, slots := &document{t: t}, &document{t: t}
	for _, w := range out.Workloads {
		for _, r := range w.Resources {
			if _, isSlot := r.Message.(*corev3.TypedExtensionConfig); isSlot {
				slots.add(w.Workload, r.Message)
			} else {
				listeners.add(w.Workload, withoutReserved(r.Message))
			}
		}
	}
	var companions, diagnostics bytes.Buffer
	for _, c := range out.Companions {
		text, err := yaml.Marshal(c.NetworkPolicy)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&companions, "---\n# of %s/%s, dry run: %t\n%s", c.Policy.Namespace, c.Policy.Name, c.DryRun, text)
	}
	for _, d := range out.Diagnostics {
		fmt.Fprintln(&diagnostics, d)
	}
	rendered := map[string]string{
		listenersFile: listeners.String(), "rbac.yaml": slots.String(), "networkpolicy.yaml": companions.String(), "diagnostics.txt": diagnostics.String(),
	}
	maps.DeleteFunc(rendered, func(_, text string) bool { return text == "" })
	return rendered
}

// document is messages as YAML, each once with the workloads that have it.
type document struct {
	t     *testing.T
	texts []string
	of    map[string][]string
}

func (d *document) add(w *model.Workload, m proto.Message) {
	d.t.Helper()
	text, err := protoyaml.Marshal(m)
	if err != nil {
		d.t.Fatal(err)
	}
	key := string(text)
	if d.of == nil {
		d.of = map[string][]string{}
	}
	if _, found := d.of[key]; !found {
		d.texts = append(d.texts, key)
	}
	d.of[key] = append(d.of[key], w.Namespace+"/"+w.Name)
}

func (d *document) String() string {
	var b strings.Builder
	for _, text := range d.texts {
		fmt.Fprintf(&b, "---\n# of %s\n%s", strings.Join(d.of[text], ", "), text)
	}
	return b.String()
}

// withoutReserved leaves out the hundred chains that close the sidecar's own ports: they are the same everywhere, and have a test of their own.
func withoutReserved(m proto.Message) proto.Message {
	l, ok := m.(*listenerv3.Listener)
	if !ok {
		return m
	}
	l = proto.CloneOf(l)
	l.FilterChains = slices.DeleteFunc(l.FilterChains, func(fc *listenerv3.FilterChain) bool { return strings.HasPrefix(fc.GetName(), "reserved/") })
	return l
}

// request is a line of intent.
type request struct {
	To      string            `json:"to"`   // namespace/workload
	From    string            `json:"from"` // namespace/workload, or an address
	Port    uint16            `json:"port"`
	Method  string            `json:"method,omitempty"` // absent: plain TCP
	Host    string            `json:"host,omitempty"`   // default: the callee's name
	Path    string            `json:"path,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Want    string            `json:"want"` // allow or deny
	By      string            `json:"by"`   // who decides
}

func readRequests(t *testing.T, dir string) []request {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, requestsFile))
	if err != nil {
		t.Fatalf("a case states who may do what: %v", err)
	}
	var out []request
	if err := yaml.UnmarshalStrict(text, &out); err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	return out
}

// check asks the evaluator what the policies mean, and what the sidecar that is configured so does.
func (r request) check(t *testing.T, ix *model.Index, out *translate.Output) {
	t.Helper()
	callee := named(ix, r.To)
	if callee == nil {
		t.Fatalf("no workload %s", r.To)
	}
	q := model.Request{Port: r.Port}
	if caller := named(ix, r.From); caller != nil {
		q.Source = caller.Addresses[0]
	} else {
		q.Source = netip.MustParseAddr(r.From)
	}
	if r.Method != "" {
		_, name, _ := strings.Cut(r.To, "/")
		q.HTTP = &model.HTTPRequest{Method: r.Method, Host: name, Path: r.Path}
		if r.Host != "" {
			q.HTTP.Host = r.Host
		}
		for _, k := range slices.Sorted(maps.Keys(r.Headers)) {
			q.HTTP.Headers = append(q.HTTP.Headers, model.Header{Name: k, Value: r.Headers[k]})
		}
	}
	want := model.Verdict{Allowed: r.Want == "allow", Decider: r.By}
	if got := eval.Ingress(ix, callee, q); got != want || r.Want != "allow" && r.Want != "deny" {
		t.Errorf("%+v: got %+v", r, got)
	}
	var resources []proto.Message
	for _, w := range out.Workloads {
		if w.Workload.Key == callee.Key {
			for _, x := range w.Resources {
				resources = append(resources, x.Message)
			}
		}
	}
	sidecar, err := envoy.NewSidecar(resources...)
	if err != nil {
		t.Fatal(err)
	}
	call := &envoy.Call{Source: q.Source, Port: q.Port, HTTP: q.HTTP}
	if bound := callee.Proxy.Bound; len(bound) > 0 {
		i := slices.IndexFunc(bound, func(b model.BoundPort) bool { return b.Port == q.Port })
		if i < 0 {
			return // nobody listens for it
		}
		call.Port = bound[i].Listen.Port()
	}
	if got := sidecar.Decide(call); got.Allowed != want.Allowed || got.Name != want.Decider && got.Outcome != envoy.Closed {
		t.Errorf("%+v: the sidecar says %+v", r, got)
	}
}

func named(ix *model.Index, name string) *model.Workload {
	i := slices.IndexFunc(ix.Workloads, func(w *model.Workload) bool { return w.Namespace+"/"+w.Name == name })
	if i < 0 {
		return nil
	}
	return ix.Workloads[i]
}
