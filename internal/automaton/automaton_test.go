package automaton_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/automaton"
)

// words are all strings of up to length symbols of an alphabet, short ones first.
func words(alphabet string, length int) []string {
	out := []string{""}
	for last := out; length > 0; length-- {
		var next []string
		for _, w := range last {
			for _, r := range alphabet {
				next = append(next, w+string(r))
			}
		}
		out, last = append(out, next...), next
	}
	return out
}

// Every combination of languages that short strings show is found, each witness is in the class that it stands for, and none is longer than needed.
func TestClassesAreThoseOfAllStrings(t *testing.T) {
	t.Parallel()
	exprs := []string{`a*`, `[^a]b?`, `(?i)AB|b`, `.*ba.*`, `(?:ab){1,3}`, `a.c?`, `|c`, `[a-b]+c`, `(a|b)*abb`, `\w\W?`}
	all := words("abc", 6)
	rapid.Check(t, func(t *rapid.T) {
		chosen := rapid.SliceOfN(rapid.SampledFrom(exprs), 1, 4).Draw(t, "exprs")
		q := automaton.Question{Alphabet: automaton.Set{'a', 'c'}, Budget: 1 << 20}
		var res []*regexp.Regexp
		for _, e := range chosen {
			x, err := automaton.Regexp(e)
			if err != nil {
				t.Fatal(err)
			}
			q.Exprs, res = append(q.Exprs, x), append(res, regexp.MustCompile(`\A(?:`+e+`)\z`))
		}
		if rapid.Bool().Draw(t, "in") {
			q.In, q.Out = q.Exprs[:1], q.Exprs[1:min(2, len(q.Exprs))]
		}
		signature := func(s string) string {
			var b strings.Builder
			for _, re := range res {
				if re.MatchString(s) {
					b.WriteByte('1')
				} else {
					b.WriteByte('0')
				}
			}
			return b.String()
		}
		want := map[string]string{}
		for _, w := range all {
			sig := signature(w)
			if _, known := want[sig]; !known && (q.In == nil || sig[0] == '1' && (len(q.Out) == 0 || sig[1] == '0')) {
				want[sig] = w
			}
		}
		classes, complete := automaton.Classes(q)
		if !complete {
			t.Fatal("the budget ran out")
		}
		for _, c := range classes {
			sig := signature(c.Witness)
			short, known := want[sig]
			if !known && len(c.Witness) <= 6 || known && len(short) != len(c.Witness) {
				t.Errorf("class %s has the witness %q; want as short as %q", sig, c.Witness, short)
			}
			for i, m := range c.Member {
				if m != (sig[i] == '1') {
					t.Errorf("witness %q is not in its class %v", c.Witness, c.Member)
				}
			}
			delete(want, sig)
		}
		if len(want) > 0 {
			t.Errorf("classes not found: %v", want)
		}
	})
}

func TestWrappers(t *testing.T) {
	t.Parallel()
	space := automaton.Single(' ')
	for _, c := range []struct {
		name string
		expr *automaton.Expr
		want []string // the strings of up to three symbols of "a ,"
	}{
		{"trimmed", automaton.Trimmed(automaton.Any(), space), []string{"", "a", ",", "aa", "a,", ",a", ",,", "aaa", "a a"}},
		{"without", automaton.Without(automaton.Any(), automaton.Set{' ', ' ', ',', ','}), []string{"", "a", "aa", "aaa"}},
		{"a literal with outer spaces, trimmed", automaton.Trimmed(automaton.Literal(" a"), space), nil},
		{"nothing", automaton.None(), nil},
		{"maybe", automaton.Maybe(automaton.Literal("a,")), []string{"", "a,"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, w := range words("a ,", 3) {
				q := automaton.Question{Alphabet: automaton.Single('a', ' ', ','), In: []*automaton.Expr{automaton.Literal(w), c.expr}, Budget: 1 << 16}
				if classes, _ := automaton.Classes(q); len(classes) > 0 {
					got = append(got, w)
				}
			}
			if c.name == "trimmed" {
				got = slices.DeleteFunc(got, func(s string) bool { return len(s) == 3 && s != "aaa" && s != "a a" })
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Bytes are compared, not characters: a dot is one byte, and what is no UTF-8 is as good as what is.
func TestBytes(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "aé\uFFFD", "a\xffb", "\xc3"} {
		if got := automaton.Text(automaton.Symbols(s)); got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	}
	for expr, want := range map[string]string{"[^a]": "", "..": "é", "[^a]{2}": "é", "(?i)k": ""} {
		e, err := automaton.Regexp(expr)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		q := automaton.Question{Alphabet: automaton.Set{0, automaton.Last}, In: []*automaton.Expr{e, automaton.Literal("é")}, Budget: 1000}
		if classes, _ := automaton.Classes(q); len(classes) > 0 {
			got = classes[0].Witness
		}
		if got != want {
			t.Errorf("%s matches %q of é, want %q", expr, got, want)
		}
	}
}

func TestUnsupportedExpressions(t *testing.T) {
	t.Parallel()
	for _, e := range []string{`a\b`, `^a`, `(`} {
		if _, err := automaton.Regexp(e); err == nil {
			t.Errorf("%s: want an error", e)
		}
	}
}

// When the budget ends, what was found stands, and the answer says that it is not all.
func TestBudget(t *testing.T) {
	t.Parallel()
	e, err := automaton.Regexp(`(?:[ab]*a[ab]{8})`)
	if err != nil {
		t.Fatal(err)
	}
	q := automaton.Question{Alphabet: automaton.Set{'a', 'b'}, Exprs: []*automaton.Expr{e}, Budget: 20}
	if _, complete := automaton.Classes(q); complete {
		t.Error("want an incomplete answer")
	}
}
