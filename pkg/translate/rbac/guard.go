package rbac

import (
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// doubtfulPath is a path that applications may read in more than one way: an escaped control character, an invalid UTF-8 escape, an escape
	// of an escape that yields a dot, slash, backslash, semicolon or NUL, a malformed escape, or a dot segment hidden behind path parameters.
	// It is matched on the raw header: the forwarded path may still hold what a cleaned one no longer shows.
	doubtfulPath = `[^?]*(?:(?:%(?:[01]\C|7[fF]|[cC][01]|[fF][5-9a-fA-F]|25(?:2[eEfF]|5[cC]|3[bB]|00)|[^0-9a-fA-F]|[0-9a-fA-F][^0-9a-fA-F])` +
		`|/\.\.?(?:;|%3[bB]))\C*|%[0-9a-fA-F]?)`
	// soundAuthority is one host name, or one bracketed address, with at most one trailing dot and one port. Host conditions count on it.
	soundAuthority = `(?:[a-zA-Z0-9_-]+(?:\.[a-zA-Z0-9_-]+)*\.?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?`
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
