package rbac

import (
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// doubtfulPath is a path that applications may read in more than one way: bytes that are not UTF-8 once they are decoded (some decoders take
	// "%E0%80%AE" for a dot, others drop what they do not understand), an escaped control character, an escape of an escape that yields a dot, slash,
	// backslash, semicolon or NUL, a malformed escape, or a dot segment hidden behind path parameters. It is matched on the raw header: the forwarded
	// path may still hold what a cleaned one no longer shows. Every slot holds it, so it is written short: where an escape is malformed anyway, digits
	// are not looked at, and groups capture, which costs nothing where nobody asks what.
	doubtfulPath = `(?i)[^?]*((%(` + badEscape + `|` + badSequence + `|` + wholeSequence + continues + `)|/\.\.?(;|%3b)|([^%?][^?]{2}|/[^?]?)` + continues + `)\C*|` +
		`%(` + partSequence + `(([^%]|%[^89ab])\C*)?|.?))`
	badEscape   = `c?[01]|7f|25(2[ef]|5c|3b|00)|.?[^\da-f]` // C0 and C1 begin no UTF-8
	badSequence = `e0%[89]|ed%[ab]|f0%8|f4%[^8]|f[^0-4]`    // longer than it need be, a surrogate, beyond Unicode
	// wholeSequence is one character, partSequence one that wants another byte, each without its first percent sign; continues begins such a byte.
	wholeSequence = `([0-7]|[cd].%.|e.%..%.|f.%..%..%.).`
	partSequence  = `([c-f]|[ef].%.|f.%..%.).`
	continues     = `%[89ab]`
	// soundAuthority is one host name, or one bracketed address, with at most one trailing dot and one port. Host conditions count on it.
	soundAuthority = `([\w-]+(\.[\w-]+)*\.?|\[[\da-fA-F:.]+\])(:\d{1,5})?`
)

// guard refuses requests about whose target applications may disagree with any policy.
func (in *inputs) guard() []*field {
	return []*field{
		entry(where(in.path, regex(doubtfulPath)), decide(model.OutcomeGuardPath, model.Deny)),
		entry(not(where(in.authority, regex(soundAuthority))), decide(model.OutcomeGuardHost, model.Deny)),
	}
}

// reserved refuses the sidecar's own ports, which no rule opens.
func (in *inputs) reserved(maps []PortMap) []*field {
	ports := portSet{spans: []span{{model.ReservedFirst, model.ReservedLast}}}.sockets(maps, model.Deny)
	if ports.none() {
		return nil
	}
	return []*field{entry(ports.predicate(in), decide(model.OutcomeReservedPort, model.Deny))}
}
