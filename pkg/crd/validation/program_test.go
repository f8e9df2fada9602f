package validation_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
)

// envoySizes asks a real Envoy for the size of the program of each expression: it warns of every one above its warning level, which is set to 0.
// It fails the test for an expression that Envoy refuses.
func envoySizes(t testing.TB, expressions []string) []int {
	t.Helper()
	type object = map[string]any
	routes := make([]object, 0, len(expressions))
	for _, e := range expressions {
		routes = append(routes, object{"match": object{"safe_regex": object{"regex": e}}, "direct_response": object{"status": 200}})
	}
	manager := object{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "x", "route_config": object{"virtual_hosts": []object{{"name": "x", "domains": []string{"*"}, "routes": routes}}},
		"http_filters": []object{{"name": "router", "typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}},
	}
	config, err := json.Marshal(object{
		"layered_runtime": object{"layers": []object{{"name": "x", "static_layer": object{
			"re2.max_program_size.error_level": 1 << 30, "re2.max_program_size.warn_level": 0,
		}}}},
		"static_resources": object{"listeners": []object{{
			"name": "x", "address": object{"socket_address": object{"address": "127.0.0.1", "port_value": 0}},
			"filter_chains": []object{{"filters": []object{{"name": "x", "typed_config": manager}}}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), envoytest.Binary(t), "-c", file, "--mode", "validate", "-l", "warning").CombinedOutput()
	if err != nil {
		t.Fatalf("Envoy refuses: %v\n%s", err, out)
	}
	var sizes []int
	for _, m := range regexp.MustCompile(`RE2 program size of (\d+) >`).FindAllStringSubmatch(string(out), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, n)
	}
	if len(sizes) != len(expressions) {
		t.Fatalf("asked for %d sizes, got %d:\n%s", len(expressions), len(sizes), out)
	}
	return sizes
}

// written are the forms in which the translation writes an expression, the largest of them.
func written(r string) []string {
	flags := ""
	if rest, found := strings.CutPrefix(r, "(?i)"); found {
		flags, r = "(?i)", rest
	}
	return []string{
		flags + r,
		flags + "(?:" + r + `)(?:\?\C*)?`,
		flags + "(?:" + r + `)(?:[ \t]*,[ \t]*(?:` + r + "))*",
		flags + `(?:\C*,[ \t]*)?(?:` + r + `)(?:[ \t]*,\C*)?`,
	}
}

// checkSizes holds the bound against Envoy: the size of each expression is never above it, and in no form above what the bootstrap lets pass.
func checkSizes(t testing.TB, expressions []string) {
	t.Helper()
	var asked []string
	for _, e := range expressions {
		asked = append(asked, written(e)...)
	}
	if len(asked) == 0 {
		return
	}
	sizes := envoySizes(t, asked)
	for i, e := range expressions {
		own, forms := sizes[4*i], sizes[4*i+1:4*i+4]
		bound := validation.ProgramSize(e)
		if own > bound {
			t.Errorf("%q: Envoy's program has %d instructions, the bound says %d", e, own, bound)
		}
		for j, n := range forms {
			if n >= 1000 && bound <= validation.MaxExpressionSize {
				t.Errorf("%q passes, and is written as a program of %d instructions: %s", e, n, asked[4*i+1+j])
			}
		}
	}
}

// The bound that validation puts on an expression is never below what Envoy counts, and what passes can be written in every form.
func TestProgramSizeIsBounded(t *testing.T) {
	t.Parallel()
	expressions := []string{
		".", ".{200}", `\W{50}`, "[^,]{80}", "(?i)[a-z]k{20}s", "(?:a|b|cd)*", "(?:a?){100}", "(?:(?:a*)*)*", "(?:ab?c?d?){40}", "a{3,}", "a{0,90}", "(a|ab|abc){30}",
		"(?i)straße"[:7], `[[:^alnum:]_-]{60}`, `\D\S\b\B\w`, "(?:){1000}", "(?:a{0}){100}x", "|", "a||b", "(?:.?.?.?){20}", "(((((a)))))", "[^a][^b]", "a*?b+?c??",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for len(expressions) < 1500 {
		if e := randomExpression(random, 4); validation.ExpressionProblem(e) == "" {
			expressions = append(expressions, e)
		}
	}
	checkSizes(t, expressions)
}

// FuzzProgramSize does the same for what the fuzzer finds. It asks Envoy for many expressions at a time, grown from one seed.
func FuzzProgramSize(f *testing.F) {
	f.Add("/v[0-9]+/.*", uint64(1))
	f.Add("(?:a|b){1,30}", uint64(2))
	f.Fuzz(func(t *testing.T, expression string, seed uint64) {
		var expressions []string
		if validation.ExpressionProblem(expression) == "" {
			expressions = append(expressions, strings.TrimSuffix(strings.TrimPrefix(expression, "^"), "$"))
		}
		random := rand.New(rand.NewPCG(seed, seed))
		for range 500 {
			if e := randomExpression(random, 5); validation.ExpressionProblem(e) == "" {
				expressions = append(expressions, e)
			}
		}
		checkSizes(t, expressions)
	})
}

// randomExpression grows an expression from the syntax that validation lets pass.
func randomExpression(r *rand.Rand, depth int) string {
	atoms := []string{
		"a", "b", "k", "S", "-", "/", ".", `\.`, `\d`, `\D`, `\w`, `\W`, `\s`, `\S`, `\b`, `\B`, "[a-z]", "[^/]", "[^a-f0-9]", "[[:alpha:]]", "[[:^alpha:]]",
		`[\W-z]`, `\x41`, "abc", "", `[!-~]`, "[acegikmoqsuwy]",
	}
	sub := func() string { return randomExpression(r, depth-1) }
	if depth == 0 {
		return atoms[r.IntN(len(atoms))]
	}
	switch r.IntN(9) {
	case 0:
		return "(?:" + sub() + "|" + sub() + ")"
	case 1:
		return "(" + sub() + ")"
	case 2:
		return "(?:" + sub() + ")" + []string{"*", "+", "?", "*?", "+?", "??"}[r.IntN(6)]
	case 3:
		low := r.IntN(12)
		return fmt.Sprintf("(?:%s){%d,%d}", sub(), low, low+r.IntN(12))
	case 4:
		return fmt.Sprintf("(?:%s){%d}", sub(), r.IntN(40))
	case 5:
		return fmt.Sprintf("(?:%s){%d,}", sub(), r.IntN(12))
	case 6:
		return "(?:" + sub() + "|" + sub() + "|" + sub() + ")"
	}
	return sub() + sub()
}
