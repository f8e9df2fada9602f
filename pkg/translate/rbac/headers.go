package rbac

import (
	"fmt"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// wellFormedText is valid UTF-8, read as bytes: other values are read differently by different applications.
	wellFormedText = `(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]` +
		`|\xf0[\x90-\xbf][\x80-\xbf][\x80-\xbf]|[\xf1-\xf3][\x80-\xbf][\x80-\xbf][\x80-\xbf]|\xf4[\x80-\x8f][\x80-\xbf][\x80-\xbf])*`
	// listProgram is what the expressions around a value add to its program.
	listProgram = 24
)

// list is what may stand around one of a header's values.
type list struct{ separator, before, after string }

// listOf: HTTP/2 sends a cookie's pairs in lines of their own, which Envoy joins with "; ".
func listOf(name string) list {
	separator := ","
	if name == "cookie" {
		separator = "[,;]"
	}
	return list{separator, `(?:\C*` + separator + `[ \t]*)?`, `(?:[ \t]*` + separator + `\C*)?`}
}

// header is a condition on one header. The input joins the lines of a repeated header with commas, as RFC 9110 section 5.3 reads them.
type header struct {
	name      string
	predicate predicate
	exact     string // an index may look this value up; "" where it cannot
}

// headerCondition builds a condition, whose positive form holds for every value of the header in an Allow and for any in a Deny. The negative form of
// each is the negation of the other's positive form.
func (in *inputs) headerCondition(m model.HeaderMatch, action model.Action) (header, error) {
	name := strings.ToLower(m.Name)
	if !validHeaderName(name) || !validText(m.Value) {
		return header{}, fmt.Errorf("header %q: not a header name or value", m.Name)
	}
	if name == ForwardedProto {
		name = KeptProto
	}
	input := headerInput(name)
	present := where(input, regex(`\C*`))
	out := header{name: name}
	switch m.Type {
	case model.Present:
		out.predicate = present
		return out, nil
	case model.Absent:
		out.predicate = not(present)
		return out, nil
	case model.NotExact, model.NotRegex:
		positive, err := in.everyValue(input, m)
		if action == model.Allow {
			positive, err = in.anyValue(input, listOf(name), m)
		}
		if err != nil {
			return header{}, err
		}
		out.predicate = not(positive)
		if action == model.Allow {
			out.predicate = allOf(out.predicate, anyOf(not(present), where(input, regex(wellFormedText))))
		}
		return out, nil
	case model.Exact, model.Regex, model.Prefix:
	default:
		return header{}, fmt.Errorf("header %q: unknown match type %q", m.Name, m.Type)
	}
	var err error
	if action == model.Allow {
		out.predicate, err = in.everyValue(input, m)
	} else {
		out.predicate, err = in.anyValue(input, listOf(name), m)
	}
	if m.Type == model.Exact {
		out.exact = m.Value
	}
	return out, err
}

// everyValue: an exact value is compared with the whole list, so that a repeated header never passes for a single one.
func (in *inputs) everyValue(input extension, m model.HeaderMatch) (predicate, error) {
	if m.Type == model.Exact || m.Type == model.NotExact {
		if m.Value == "" {
			return where(input, regex("(?:)")), nil // no expression may be empty
		}
		return where(input, exactly(m.Value)), nil
	}
	// Where its negation stands in a Deny, what is taken out of the expression widens the Deny.
	r, err := rewrite(m.Value, model.Allow, ',')
	switch {
	case err != nil:
		return nil, err
	case 2*r.program+listProgram > maxProgram:
		return nil, errTooLarge
	case r.never:
		return nothing(input), nil
	}
	return where(input, regex("(?:"+r.text+`)(?:[ \t]*,[ \t]*(?:`+r.text+"))*")), nil
}

// anyValue: any run of the list's values, since a value may hold separators itself.
func (in *inputs) anyValue(input extension, l list, m model.HeaderMatch) (predicate, error) {
	expr, program := quote(m.Value), len(m.Value)
	if m.Type == model.Regex || m.Type == model.NotRegex {
		r, err := rewrite(m.Value, model.Deny, noRune)
		if err != nil {
			return nil, err
		}
		if r.never {
			return nothing(input), nil
		}
		expr, program = r.text, r.program
	}
	if program+listProgram > maxProgram {
		return nil, errTooLarge
	}
	return where(input, regex(l.before+"(?:"+expr+")"+l.after)), nil
}

// noRune takes nothing out of classes.
const noRune rune = -1

// nothing never holds.
func nothing(input extension) predicate {
	present := where(input, regex(`\C*`))
	return allOf(present, not(present))
}

// validHeaderName: a token of RFC 9110 section 5.1, in lower case. A pseudo-header is not one.
func validHeaderName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") == ""
}
