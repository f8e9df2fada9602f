package rbac

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// predicate is one of the generic matching API, in wire format. Messages are shared freely between places of one configuration: nothing changes
// them once built.
type predicate []byte

// inputs are what matchers look at. A header input gives the values of repeated headers joined with "," and nothing when the header is absent,
// so that a predicate on an absent header is false. Names of extensions say nothing to Envoy (it goes by type), so they are short.
type inputs struct {
	path, authority, method, port, source extension

	// Scratch.
	buffer   []byte
	prefixes []netip.Prefix
}

func newInputs() *inputs {
	return &inputs{
		path: headerInput(":path"), authority: headerInput(":authority"), method: headerInput(":method"),
		port: newExtension("port", portType, nil), source: newExtension("source", sourceType, nil),
	}
}

func headerInput(name string) extension {
	return newExtension("header", headerType, appendText(nil, headerNameField, name))
}

// text is what a value is compared with.
type text struct {
	kind       protowire.Number
	value      string
	ignoreCase bool
}

func exactly(value string) text { return text{kind: exactField, value: value} }

func startsWith(value string) text { return text{kind: prefixField, value: value} }

// regex matches whole values.
func regex(expr string) text { return text{kind: regexField, value: expr} }

// engineSize is RE2's, which has no fields.
const engineSize = 2

func (t text) size() int {
	n := len(t.value)
	if t.kind == regexField {
		n = engineSize + fieldSize(n)
	}
	n = fieldSize(n)
	if t.ignoreCase {
		n += 2
	}
	return n
}

func (t text) append(b []byte) []byte {
	if t.ignoreCase {
		b = appendNumber(b, ignoreCaseField, 1)
	}
	if t.kind != regexField {
		return appendText(b, t.kind, t.value)
	}
	b = appendHead(b, regexField, engineSize+fieldSize(len(t.value)))
	return appendHead(appendText(b, expressionField, t.value), engineField, 0)
}

// expr is an expression for a whole value, and a bound of the size of its program.
type expr struct {
	text    string
	program int
}

// anyExpression says of one input what any of the expressions says, in as few predicates as Envoy takes programs for: each names its input anew.
func anyExpression(input extension, exprs []expr) []predicate {
	const alternative = 4
	var out []predicate
	for len(exprs) > 0 {
		n, program := 0, 0
		var texts []string
		for n < len(exprs) && (n == 0 || program+exprs[n].program+alternative <= maxProgram) {
			program += exprs[n].program + alternative
			texts = append(texts, exprs[n].text)
			n++
		}
		out = append(out, where(input, regex(strings.Join(texts, "|"))))
		exprs = exprs[n:]
	}
	return out
}

func where(input extension, value text) predicate {
	size := fieldSize(len(input)) + fieldSize(value.size())
	out := appendHead(make(predicate, 0, fieldSize(size)), singleField, size)
	return value.append(appendHead(appendBytes(out, inputField, input), valueMatchField, value.size()))
}

func whereCustom(input, custom extension) predicate {
	size := fieldSize(len(input)) + fieldSize(len(custom))
	out := appendHead(make(predicate, 0, fieldSize(size)), singleField, size)
	return appendBytes(appendBytes(out, inputField, input), customField, custom)
}

// allOf is the conjunction of at least one.
func allOf(ps ...predicate) predicate { return appendAll(make([]byte, 0, sizeOfAll(ps)), ps) }

func sizeOfAll(ps []predicate) int {
	if len(ps) == 1 {
		return len(ps[0])
	}
	return fieldSize(sizeOfList(ps))
}

func appendAll(b []byte, ps []predicate) []byte {
	if len(ps) == 1 {
		return append(b, ps[0]...)
	}
	return appendList(b, allOfField, ps)
}

// anyOf is the disjunction of at least one.
func anyOf(ps ...predicate) predicate {
	if len(ps) == 1 {
		return ps[0]
	}
	return appendList(make([]byte, 0, fieldSize(sizeOfList(ps))), anyOfField, ps)
}

func sizeOfList(ps []predicate) int {
	n := 0
	for _, p := range ps {
		n += fieldSize(len(p))
	}
	return n
}

func appendList(b []byte, kind protowire.Number, ps []predicate) []byte {
	b = appendHead(b, kind, sizeOfList(ps))
	for _, p := range ps {
		b = appendBytes(b, predicatesField, p)
	}
	return b
}

func not(p predicate) predicate {
	return appendBytes(make([]byte, 0, fieldSize(len(p))), notField, p)
}

// decide ends a match with a named verdict.
func decide(name string, action model.Action) *onMatch {
	const verdictDeny = 1 // envoy.config.rbac.v3.RBAC.DENY; ALLOW is 0, which is not written
	content := appendText(make([]byte, 0, fieldSize(len(name))+2), ruleNameField, name)
	if action == model.Deny {
		content = appendNumber(content, verdictField, verdictDeny)
	}
	const extensionName = "action"
	size := extensionSize(extensionName, actionType, len(content))
	out := appendHead(make([]byte, 0, fieldSize(size)), actionField, size)
	return &onMatch{decision: appendExtension(out, extensionName, actionType, content)}
}

// byExact and byPrefix look an input up in a map, and try next where no entry matches.
func byExact(input extension, entries map[string]*onMatch, next *onMatch) *onMatch {
	return byKey(exactMapField, input, entries, next)
}

func byPrefix(input extension, entries map[string]*onMatch, next *onMatch) *onMatch {
	return byKey(prefixMapField, input, entries, next)
}

func byKey(lookup protowire.Number, input extension, entries map[string]*onMatch, next *onMatch) *onMatch {
	out := &onMatch{input: input, lookup: lookup, next: next, entries: make([]*field, 0, len(entries))}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		out.entries = append(out.entries, &field{key: valid(key), then: entries[key]})
	}
	return out.measured()
}
