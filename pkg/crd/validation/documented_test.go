package validation_test

import (
	"os"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
)

// The reference's table of expressions says what is taken and what is not: every one of these stands in it, in the column of what happens to it.
func TestDocumentedExpressions(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		// A | inside a cell is written with a backslash before it.
		if cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|"); len(cells) == 5 {
			for i := range cells {
				cells[i] = strings.ReplaceAll(cells[i], "\x00", "|")
			}
			rows[strings.TrimSpace(cells[1])] = cells[2:4]
		}
	}
	// Each is written as in the table, and after the slash and whatever else makes it an expression of a path.
	for row, expressions := range map[string]struct{ taken, refused []string }{
		"anchors": {[]string{`^`, `$`, `\b`, `\B`}, []string{`\A`, `\z`}},
		"groups":  {[]string{`(a|b)`, `(?:a|b)`}, []string{`(?P<n>a)`, `(?=a)`, `\1`}},
		"flags":   {[]string{`(?i)`}, nil},
		"classes": {
			[]string{`.`, `[a-z]`, `[^a-z]`, `[[:alpha:]]`, `\d`, `\D`, `\s`, `\S`, `\w`, `\W`},
			[]string{`\pL`, `\PL`, `\C`},
		},
		"escapes":    {[]string{`\a`, `\f`, `\n`, `\r`, `\t`, `\v`, `\x00`, `\x7f`}, []string{`\x{7f}`, `\07`, `\Q...\E`}},
		"repetition": {[]string{`*`, `+`, `?`, `{2}`, `{2,}`, `{2,5}`}, nil},
	} {
		cells, known := rows[row]
		if !known {
			t.Errorf("the table has no row %q", row)
			continue
		}
		problem := func(e string) string {
			path := "/a" + e
			switch e {
			case "^", "(?i)":
				path = e + "/a"
			}
			if err := validation.Validate(withPath(v1alpha1.ActionAllow, v1alpha1.PathMatch{Type: v1alpha1.PathRegularExpression, Value: path})); err != nil {
				return err.Error()
			}
			return ""
		}
		for _, e := range expressions.taken {
			if !strings.Contains(cells[0], "`"+e+"`") || problem(e) != "" {
				t.Errorf("%s: %s is to stand among what is taken, and to be: %s", row, e, problem(e))
			}
			if row == "repetition" && problem(e+"?") != "" {
				t.Errorf("%s? is not taken: %s", e, problem(e+"?"))
			}
		}
		for _, e := range expressions.refused {
			if !strings.Contains(cells[1], "`"+e+"`") || problem(e) == "" {
				t.Errorf("%s: %s is to stand among what is refused, and to be", row, e)
			}
		}
	}
	for _, refused := range []string{"/a^b", "/a$b", "/a(?i)b", "(?s)/a", "/\u00e9", "/" + strings.Repeat("a", 256), "/x{100}x{400}", "a", "/a?b#", `/a\?b`} {
		if validation.Validate(withPath(v1alpha1.ActionAllow, v1alpha1.PathMatch{Type: v1alpha1.PathRegularExpression, Value: refused})) == nil {
			t.Errorf("%s is taken", refused)
		}
	}
}
