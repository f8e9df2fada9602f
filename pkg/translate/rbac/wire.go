package rbac

import (
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

// Slots are written, not marshalled: what is built of a rule is bytes, once, and whoever compiles a slot copies them to where they stand. Numbers of fields stay what they
// are for ever, as the wire format demands. Here each is below 16, so that a tag is one byte. Of a message's fields those that exclude each other come last, as Go's
// protobuf writes them.
const (
	httpShadowPrefixField  protowire.Number = 3 // envoy.extensions.filters.http.rbac.v3.RBAC
	httpMatcherField       protowire.Number = 4
	httpShadowMatcherField protowire.Number = 5
	httpTrackRulesField    protowire.Number = 7

	networkStatPrefixField    protowire.Number = 3 // envoy.extensions.filters.network.rbac.v3.RBAC
	networkShadowPrefixField  protowire.Number = 5
	networkMatcherField       protowire.Number = 6
	networkShadowMatcherField protowire.Number = 7

	matcherListField protowire.Number = 1 // xds.type.matcher.v3.Matcher
	matcherTreeField protowire.Number = 2
	onNoMatchField   protowire.Number = 3

	entryField     protowire.Number = 1 // MatcherList.matchers, and MatcherTree.MatchMap.map
	entryKeyField  protowire.Number = 1 // MatcherList.FieldMatcher.predicate, and a map's key
	entryThenField protowire.Number = 2 // on_match, and a map's value

	treeInputField  protowire.Number = 1 // MatcherTree
	exactMapField   protowire.Number = 2
	prefixMapField  protowire.Number = 3
	nestedField     protowire.Number = 1 // OnMatch.matcher
	actionField     protowire.Number = 2 // OnMatch.action
	singleField     protowire.Number = 1 // MatcherList.Predicate
	anyOfField      protowire.Number = 2
	allOfField      protowire.Number = 3
	notField        protowire.Number = 4
	predicatesField protowire.Number = 1 // MatcherList.Predicate.PredicateList.predicate
	inputField      protowire.Number = 1 // MatcherList.Predicate.SinglePredicate
	valueMatchField protowire.Number = 2
	customField     protowire.Number = 3

	exactField      protowire.Number = 1 // xds.type.matcher.v3.StringMatcher
	prefixField     protowire.Number = 2
	regexField      protowire.Number = 5
	ignoreCaseField protowire.Number = 6
	engineField     protowire.Number = 1 // xds.type.matcher.v3.RegexMatcher.google_re2
	expressionField protowire.Number = 2 // xds.type.matcher.v3.RegexMatcher.regex

	nameField   protowire.Number = 1 // xds.core.v3.TypedExtensionConfig
	configField protowire.Number = 2
	typeField   protowire.Number = 1 // google.protobuf.Any
	valueField  protowire.Number = 2

	headerNameField protowire.Number = 1 // envoy.type.matcher.v3.HttpRequestHeaderMatchInput.header_name
	ruleNameField   protowire.Number = 1 // envoy.config.rbac.v3.Action
	verdictField    protowire.Number = 2
	rangesField     protowire.Number = 1 // envoy.extensions.matching.input_matchers.ip.v3.Ip
	ipPrefixField   protowire.Number = 2
	addressField    protowire.Number = 1 // envoy.config.core.v3.CidrRange
	bitsField       protowire.Number = 2
	uint32Field     protowire.Number = 1 // google.protobuf.UInt32Value.value
)

// The types of what a slot holds.
const (
	httpFilterType    = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
	networkFilterType = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"
	actionType        = "type.googleapis.com/envoy.config.rbac.v3.Action"
	ipType            = "type.googleapis.com/envoy.extensions.matching.input_matchers.ip.v3.Ip"
	headerType        = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
	portType          = "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DestinationPortInput"
	sourceType        = "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DirectSourceIPInput"
)

// fieldSize is what a field of so many bytes takes.
func fieldSize(n int) int { return 1 + protowire.SizeBytes(n) }

// appendHead begins a field of so many bytes.
func appendHead(b []byte, field protowire.Number, n int) []byte {
	return protowire.AppendVarint(append(b, byte(field)<<3|byte(protowire.BytesType)), uint64(n))
}

func appendBytes(b []byte, field protowire.Number, content []byte) []byte {
	return append(appendHead(b, field, len(content)), content...)
}

// appendText takes valid text only: every reader would refuse the whole slot for any other.
func appendText(b []byte, field protowire.Number, s string) []byte {
	return append(appendHead(b, field, len(s)), valid(s)...)
}

func valid(s string) string {
	if !utf8.ValidString(s) {
		panic("not UTF-8 in a slot: " + s)
	}
	return s
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(append(b, byte(field)<<3|byte(protowire.VarintType)), n)
}

// extension is a TypedExtensionConfig in wire format.
type extension []byte

func extensionSize(name, typeURL string, content int) int {
	return fieldSize(len(name)) + fieldSize(anySize(typeURL, content))
}

// anySize: content without fields is not written.
func anySize(typeURL string, content int) int {
	if content == 0 {
		return fieldSize(len(typeURL))
	}
	return fieldSize(len(typeURL)) + fieldSize(content)
}

func appendExtension(b []byte, name, typeURL string, content []byte) []byte {
	b = appendHead(appendText(b, nameField, name), configField, anySize(typeURL, len(content)))
	b = appendText(b, typeField, typeURL)
	if len(content) > 0 {
		b = appendBytes(b, valueField, content)
	}
	return b
}

func newExtension(name, typeURL string, content []byte) extension {
	return appendExtension(make([]byte, 0, extensionSize(name, typeURL, len(content))), name, typeURL, content)
}

// onMatch is what a match leads to: a decision, or a matcher, which tries entries in their order or looks an input up among them, and then goes on with next. It
// knows what it takes in bytes, and is written once, into the slot; messages may stand in several places of one.
type onMatch struct {
	decision []byte // in wire format; nil for a matcher

	entries []*field
	input   extension        // of a map; nil: entries are tried in their order
	lookup  protowire.Number // the kind of map
	next    *onMatch         // nil: nothing
	listed  int              // what the entries take
	whole   int              // what the matcher takes
}

// field is an entry of a map or of a list.
type field struct {
	key  string      // of a map
	when []predicate // of a list: all of them; none for an entry of a map
	then *onMatch
}

// entry is what follows where a predicate holds.
func entry(p predicate, then *onMatch) *field { return &field{when: []predicate{p}, then: then} }

// inOrder tries entries one after the other, and then next (nil: nothing).
func inOrder(next *onMatch, entries ...*field) *onMatch {
	if len(entries) == 0 {
		return next
	}
	return (&onMatch{entries: entries, next: next}).measured()
}

// measured is a matcher that knows its size.
func (m *onMatch) measured() *onMatch {
	for i := range m.entries {
		m.listed += fieldSize(m.entries[i].size())
	}
	switch {
	case m.input != nil:
		m.whole = fieldSize(m.treeSize())
	case m.entries != nil:
		m.whole = fieldSize(m.listed)
	}
	if m.next != nil {
		m.whole += fieldSize(m.next.size())
	}
	return m
}

func (m *onMatch) treeSize() int { return fieldSize(len(m.input)) + fieldSize(m.listed) }

func (m *onMatch) size() int {
	if m.decision != nil {
		return len(m.decision)
	}
	return fieldSize(m.whole)
}

func (m *onMatch) append(b []byte) []byte {
	if m.decision != nil {
		return append(b, m.decision...)
	}
	return m.appendMatcher(b, nestedField)
}

// appendMatcher writes a matcher as a field.
func (m *onMatch) appendMatcher(b []byte, number protowire.Number) []byte {
	b = appendHead(b, number, m.whole)
	if m.next != nil {
		b = m.next.append(appendHead(b, onNoMatchField, m.next.size()))
	}
	switch {
	case m.input != nil:
		b = appendBytes(appendHead(b, matcherTreeField, m.treeSize()), treeInputField, m.input)
		b = appendHead(b, m.lookup, m.listed)
	case m.entries != nil:
		b = appendHead(b, matcherListField, m.listed)
	}
	for i := range m.entries {
		b = m.entries[i].append(b)
	}
	return b
}

func (f *field) size() int { return fieldSize(f.keySize()) + fieldSize(f.then.size()) }

func (f *field) keySize() int {
	if f.when == nil {
		return len(f.key)
	}
	return sizeOfAll(f.when)
}

func (f *field) append(b []byte) []byte {
	b = appendHead(appendHead(b, entryField, f.size()), entryKeyField, f.keySize())
	if f.when == nil {
		b = append(b, f.key...)
	} else {
		b = appendAll(b, f.when)
	}
	return f.then.append(appendHead(b, entryThenField, f.then.size()))
}

// whole makes the matcher that does what an onMatch says.
func whole(m *onMatch) *onMatch {
	if m.decision == nil {
		return m
	}
	return (&onMatch{next: m}).measured()
}

// setting is a field of a filter: a text, a matcher or a switch. What says nothing is not written.
type setting struct {
	number  protowire.Number
	text    string
	matcher *onMatch
	on      bool
}

func (p *setting) size() int {
	switch {
	case p.matcher != nil:
		return fieldSize(p.matcher.whole)
	case p.text != "":
		return fieldSize(len(p.text))
	case p.on:
		return 2
	}
	return 0
}

func (p *setting) append(b []byte) []byte {
	switch {
	case p.matcher != nil:
		return p.matcher.appendMatcher(b, p.number)
	case p.text != "":
		return appendText(b, p.number, p.text)
	case p.on:
		return appendNumber(b, p.number, 1)
	}
	return b
}

// newSlot writes the settings of a slot's filter, by ascending number.
func newSlot(name, typeURL string, settings ...setting) *corev3.TypedExtensionConfig {
	size := 0
	for i := range settings {
		size += settings[i].size()
	}
	content := make([]byte, 0, size)
	for i := range settings {
		content = settings[i].append(content)
	}
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: &anypb.Any{TypeUrl: typeURL, Value: content}}
}

// httpSlot and tcpSlot are of a verdict, and of one that is only tried (nil: none).
func httpSlot(verdict, tried *onMatch) *corev3.TypedExtensionConfig {
	shadow, prefix := shadowOf(tried)
	return newSlot(HTTPSlot, httpFilterType, setting{number: httpShadowPrefixField, text: prefix}, setting{number: httpMatcherField, matcher: whole(verdict)},
		setting{number: httpShadowMatcherField, matcher: shadow}, setting{number: httpTrackRulesField, on: true})
}

func tcpSlot(verdict, tried *onMatch) *corev3.TypedExtensionConfig {
	shadow, prefix := shadowOf(tried)
	return newSlot(TCPSlot, networkFilterType, setting{number: networkStatPrefixField, text: statPrefix}, setting{number: networkShadowPrefixField, text: prefix},
		setting{number: networkMatcherField, matcher: whole(verdict)}, setting{number: networkShadowMatcherField, matcher: shadow})
}

func shadowOf(tried *onMatch) (*onMatch, string) {
	if tried == nil {
		return nil, ""
	}
	return whole(tried), shadowStatPrefix
}
