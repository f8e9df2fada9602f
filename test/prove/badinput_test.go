package prove_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
)

// badFile is a policy file that must not take effect, and the words that its error needs.
type badFile struct {
	name, body string
	words      []string
}

func badFiles() []badFile {
	rules := make([]string, 10_000)
	for i := range rules {
		rules[i] = fmt.Sprintf("{name: r%d}", i)
	}
	binary := make([]byte, 4096)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(binary)
	return []badFile{
		{"a wrong field", policy("cart", "action: Permit, ingress: [{}]"), []string{"shop/cart", "spec.action", "Permit", "Allow"}},
		{"a field of the wrong type", policy("cart", "ingress: [{ports: [{port: [1]}]}]"), []string{"shop/cart", "port"}},
		{"an unknown key", policy("cart", "ingress: [{form: []}]"), []string{"shop/cart", "spec.ingress[0].form", "spelling"}},
		{
			"a selector that does not parse", policy("cart", "ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: Like, values: [front]}]}}]}]"),
			[]string{"shop/cart", "spec.ingress[0].from[0].podSelector", "Like"},
		},
		{
			"a regular expression of 1 MiB", policy("cart", "ingress: [{http: [{paths: [{type: RegularExpression, value: /"+strings.Repeat("a", 1<<20)+"}]}]}]"),
			[]string{"shop/cart", "spec.ingress[0].http[0].paths[0].value"},
		},
		{"10,000 rules", policy("cart", "ingress: ["+strings.Join(rules, ",")+"]"), []string{"shop/cart", "spec.ingress", "10000"}},
		{"binary data", string(binary), nil},
		{"an empty file", "", []string{"no object", "remove the file"}},
		{"half a file", onlyFront()[:len(onlyFront())-8], nil},
	}
}

// While a file is bad, its last good state stays enforced, for those whom it allows and for those whom it denies; the log names file, object and
// field, each error once. The repaired file holds.
func TestBadFileLeavesItsLastGoodState(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	s.serve()
	s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	for _, bad := range badFiles() {
		before := len(s.log())
		s.replace("a.yaml", bad.body)
		s.eventually(bad.name+": the error is in the log", func() error {
			for line := range strings.Lines(s.log()[before:]) {
				if strings.Contains(line, "a.yaml") && containsAll(line, bad.words) {
					if len(line) > 4096 {
						t.Errorf("%s: a line of %d bytes", bad.name, len(line))
					}
					return nil
				}
			}
			return fmt.Errorf("not there: %.2000s", s.log()[before:])
		})
		s.wantVerdicts(bad.name, frontOnly)
		if code, body, err := s.admin("/readyz"); err != nil || code != http.StatusOK || !strings.Contains(body, "a.yaml") {
			t.Errorf("%s: readyz: %d %v: %.200s", bad.name, code, err, body)
		}
	}
	if _, metrics, err := s.admin("/metrics"); err != nil || strings.Contains(metrics, "pilot_lite_file_problems 0") {
		t.Errorf("the metrics show no problem: %v", err)
	}
	if n := strings.Count(s.log(), "msg=rebuilt"); n != 1 {
		t.Errorf("%d rebuilds: bad files change nothing", n)
	}
	s.replace("a.yaml", policy("cart", "ingress: []"))
	s.eventuallyVerdicts("the file is repaired", nothing)
	if _, metrics, err := s.admin("/metrics"); err != nil || !strings.Contains(metrics, "pilot_lite_file_problems 0\n") {
		t.Errorf("the metrics still show a problem: %v", err)
	}
}

func containsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// A bad file holds up only itself: edits of its neighbours take effect meanwhile.
func TestBadFileHoldsUpOnlyItself(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	s.serve()
	s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	s.replace("a.yaml", "kind: [")
	s.replace("b.yaml", policy("b", "action: Deny, ingress: [{name: all}]"))
	s.eventuallyVerdicts("a Deny beside the bad file", nothing)
	s.remove("b.yaml")
	s.eventuallyVerdicts("the Deny goes", frontOnly)
}

// When the folder disappears everything stays enforced, and the log says so; when it is back, it is followed again.
func TestFolderThatDisappears(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	s.serve()
	s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	hidden := s.dir + ".hidden"
	if err := os.Rename(s.dir, hidden); err != nil {
		t.Fatal(err)
	}
	s.eventually("the error is in the log", func() error {
		if !containsAll(s.log(), []string{s.dir, "no such file"}) {
			return fmt.Errorf("not there")
		}
		return nil
	})
	s.wantVerdicts("without the folder", frontOnly)
	if err := os.Rename(hidden, s.dir); err != nil {
		t.Fatal(err)
	}
	s.replace("a.yaml", policy("cart", "ingress: []"))
	s.eventuallyVerdicts("the folder is back, with an edit", nothing)
}
