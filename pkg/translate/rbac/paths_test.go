package rbac

import (
	"encoding/hex"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// compileRE2 reads an RE2 expression with Go's package, which knows no \C.
func compileRE2(t *testing.T, expr string) *regexp.Regexp {
	t.Helper()
	re, err := regexp.Compile(`\A(?:` + strings.ReplaceAll(expr, `\C`, `(?s:.)`) + `)\z`)
	if err != nil {
		t.Fatal(err)
	}
	return re
}

// randomPath draws from an alphabet in which doubtful spellings are common. Envoy has decoded unreserved characters before.
func randomPath(r *rand.Rand, words []string) string {
	var b strings.Builder
	for range 1 + r.IntN(5) {
		b.WriteString("/")
		for range r.IntN(3) {
			b.WriteString(words[r.IntN(len(words))])
		}
	}
	return b.String()
}

// A path is in doubt when its escapes do not decode to UTF-8 without control characters; its query may hold anything.
func TestPathsThatAreNotUTF8AreInDoubt(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 5))
	re := compileRE2(t, doubtfulPath)
	first := []int{0x00, 0x1f, 0x20, 0x41, 0x7e, 0x7f, 0x80, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff}
	next := []int{0x2f, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0}
	both := map[bool]int{}
	for range 50000 {
		var bytes []byte
		for range 1 + r.IntN(2) {
			bytes = append(bytes, byte(first[r.IntN(len(first))]))
			for range r.IntN(4) {
				bytes = append(bytes, byte(next[r.IntN(len(next))]))
			}
		}
		var b strings.Builder
		b.WriteString("/" + strings.Repeat("a", r.IntN(4)))
		for i, c := range bytes {
			if c >= '/' && c < 0x7f && c != '%' && r.IntN(2) == 0 && i > 0 {
				b.WriteByte(c)
				continue
			}
			digits := hex.EncodeToString([]byte{c})
			if r.IntN(2) == 0 {
				digits = strings.ToUpper(digits)
			}
			b.WriteString("%" + digits)
		}
		want := !utf8.Valid(bytes) || slices.ContainsFunc(bytes, func(c byte) bool { return c < ' ' || c == 0x7f })
		both[want]++
		for _, path := range []string{b.String(), b.String() + "/b", b.String() + "?%80%zz\xff"} {
			if got := re.MatchString(path); got != want {
				t.Fatalf("seed %d: %s: in doubt is %t, want %t", seed, path, got, want)
			}
		}
	}
	if both[true] < 1000 || both[false] < 1000 {
		t.Errorf("too one-sided to show anything: %v", both)
	}
	for _, path := range []string{"/a%", "/a%4", "/a%zz", "/a%C3%A", "/a%C3%", "/a%C3", "/a%u0041", "/a%C3?%A9", "/a%E4%BD%A", "/%F0%9F%98"} {
		if !re.MatchString(path) {
			t.Errorf("%q is not in doubt", path)
		}
	}
}

// What a Deny of a literal path matches is what the segments of the path are once parameters are dropped, empty segments skipped and escapes
// decoded; and neither the index nor the radix misses any of it.
func TestDeniedPathsAreFoundBySegments(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 4))
	literals := []string{"a", "b", "ab", ":", "%3A", "é", "x y", "%C3%A9"}
	spellings := []string{"a", "b", "ab", ":", "%3A", "%3a", "%C3%A9", "%c3%a9", ";", ";p=1", "%20", "/", "\\"}
	odd := compileRE2(t, oddPath)
	in := newInputs()
	matched := 0
	for range 800 {
		m := model.PathMatch{Type: []model.MatchType{model.Exact, model.Prefix}[r.IntN(2)], Value: randomPath(r, literals)}
		p, err := in.deniedPath(m)
		if err != nil {
			t.Fatal(err)
		}
		re := compileRE2(t, opened(t, p.alone(in.path)).GetSinglePredicate().GetValueMatch().GetSafeRegex().GetRegex())
		for range 30 {
			path := randomPath(r, spellings)
			if r.IntN(2) == 0 { // a spelling of the literal
				path = strings.NewReplacer(":", "%3a", "é", "%c3%A9", " ", "%20", "/", []string{"/", "//", "/;q/"}[r.IntN(3)]).Replace(m.Value)
			}
			want := decodedSegments(path)
			if got := decodedSegments(m.Value); m.Type == model.Prefix && len(want) > len(got) {
				want = want[:len(got)]
			}
			holds := slices.Equal(want, decodedSegments(m.Value))
			target := path + []string{"", "?", "?x=/;a/b%"}[r.IntN(3)]
			if re.MatchString(target) != holds {
				t.Fatalf("seed %d: %s %s on %s: got %t, want %t", seed, m.Type, m.Value, target, !holds, holds)
			}
			if !holds {
				continue
			}
			matched++
			plain := !odd.MatchString(target)
			if plain && !slices.ContainsFunc(p.keys, func(k string) bool { return strings.HasPrefix(target, k) }) && p.keys != nil {
				t.Fatalf("seed %d: the index misses %s by its keys %q of %s", seed, target, p.keys, m.Value)
			}
			for _, v := range p.values {
				for n := 1; n <= len(v); n++ {
					if !compileRE2(t, deniedBeginning(v[:n])).MatchString(target) {
						t.Fatalf("seed %d: the radix misses %s at %q", seed, target, v[:n])
					}
				}
			}
		}
	}
	if matched < 100 {
		t.Fatalf("only %d paths matched: the test shows nothing", matched)
	}
}

// opened is a predicate with its fields.
func opened(t *testing.T, p predicate) *xdsmatcherv3.Matcher_MatcherList_Predicate {
	t.Helper()
	out := &xdsmatcherv3.Matcher_MatcherList_Predicate{}
	if err := proto.Unmarshal(p, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A literal longer than Envoy takes denies all that begins as it does.
func TestLongDeniedPathIsWidened(t *testing.T) {
	t.Parallel()
	value := "/" + strings.Repeat("a", 2000)
	in := newInputs()
	p, err := in.deniedPath(model.PathMatch{Type: model.Exact, Value: value})
	if err == nil {
		t.Error("the widening is not reported")
	}
	re := compileRE2(t, opened(t, p.alone(in.path)).GetSinglePredicate().GetValueMatch().GetSafeRegex().GetRegex())
	if !re.MatchString(value) || re.MatchString("/b") {
		t.Error("the pattern does not hold of the literal alone")
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 5))
	for range 60 {
		lo := r.IntN(65536)
		hi := lo + r.IntN(65536-lo)
		re := compileRE2(t, numbers(lo, hi))
		for range 300 {
			n := []int{r.IntN(65536), lo, hi, lo - 1, hi + 1, lo + r.IntN(hi-lo+1)}[r.IntN(6)]
			if n < 0 {
				continue
			}
			if got, want := re.MatchString(strconv.Itoa(n)), n >= lo && n <= hi; got != want {
				t.Fatalf("%d-%d (%s): %d: got %t", lo, hi, re, n, got)
			}
		}
	}
}

// A rule names policy ports; a socket may have another number, and then its own number means nothing.
func TestPortsAreTranslated(t *testing.T) {
	t.Parallel()
	maps := []PortMap{{Policy: 80, Socket: 8080}, {Policy: 81, Socket: 9090}, {Policy: 82, Socket: 9090}}
	for _, c := range []struct {
		name     string
		from, to uint16
		action   model.Action
		want     []span
	}{
		{"the policy's port", 80, 80, model.Allow, []span{{80, 80}, {8080, 8080}}},
		{"the socket's own number is not the policy's", 8080, 8080, model.Allow, nil},
		{"a range around both", 8000, 8100, model.Allow, []span{{8000, 8079}, {8081, 8100}}},
		{"within a range", 79, 80, model.Deny, []span{{79, 80}, {8080, 8080}}},
		{"one socket, two ports, one allowed", 81, 81, model.Allow, []span{{81, 81}}},
		{"one socket, two ports, both allowed", 81, 82, model.Allow, []span{{81, 82}, {9090, 9090}}},
		{"one socket, two ports, one denied", 81, 81, model.Deny, []span{{81, 81}, {9090, 9090}}},
	} {
		got := namedPorts([]model.PortRange{{Protocol: model.TCP, From: c.from, To: c.to}}, c.action).sockets(maps, c.action)
		if !slices.Equal(got.spans, c.want) || got.any {
			t.Errorf("%s: got %+v, want %v", c.name, got, c.want)
		}
	}
	if got := namedPorts([]model.PortRange{{Protocol: model.UDP, From: 1, To: 9}}, model.Deny).sockets(maps, model.Deny); got.any || got.spans != nil {
		t.Errorf("UDP only: got %+v, want nothing", got)
	}
}
