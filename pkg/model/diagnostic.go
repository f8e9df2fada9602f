package model

import (
	"cmp"
	"strconv"
	"strings"
	"unicode"
)

// Severity grades a diagnostic.
type Severity string

// Severities.
const (
	SeverityError   Severity = "error"   // a part is not in force as written; the fail-closed effect stands
	SeverityWarning Severity = "warning" // in force, with a consequence that its author may not expect
	SeverityNotice  Severity = "notice"  // for information
)

// Diagnostic is a finding addressed to the user: what is wrong, where, what follows, and what to do.
type Diagnostic struct {
	Code        string // stable, e.g. "http-rule-on-tcp-port"
	Severity    Severity
	Object      ObjectRef
	Field       string // e.g. "spec.ingress[0].ports[1]"
	Consequence string
	Remedy      string
}

// ObjectRef names an object as kubectl does, and the place it was read from where there is one.
type ObjectRef struct {
	Kind, Namespace, Name string
	Source                string // "file.yaml:12", else ""
}

// String is Kind namespace/name.
func (o ObjectRef) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	return strings.TrimSpace(o.Kind + " " + name)
}

// String is one line, whatever is in it: place, severity, object, field, consequence, remedy, code.
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.Object.Source != "" {
		b.WriteString(d.Object.Source + ": ")
	}
	b.WriteString(string(d.Severity) + ": " + d.Object.String())
	if d.Field != "" {
		b.WriteString(": " + d.Field)
	}
	b.WriteString(": " + d.Consequence)
	if d.Remedy != "" {
		b.WriteString("; " + d.Remedy)
	}
	return printable(b.String() + " [" + d.Code + "]")
}

// printable writes what a terminal would act on as Go does, line ends among it: whoever writes a file would choose what its reader sees.
func printable(line string) string {
	acts := func(r rune) bool { return !unicode.IsPrint(r) }
	if !strings.ContainsFunc(line, acts) {
		return line
	}
	var b strings.Builder
	for _, r := range line {
		if acts(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Compare orders diagnostics by what they are about, and then by everything else: the order does not depend on how they were found.
func (d Diagnostic) Compare(o Diagnostic) int {
	return cmp.Or(
		cmp.Compare(d.Object.Kind, o.Object.Kind), cmp.Compare(d.Object.Namespace, o.Object.Namespace), cmp.Compare(d.Object.Name, o.Object.Name),
		cmp.Compare(d.Field, o.Field), cmp.Compare(d.Code, o.Code), cmp.Compare(d.Severity, o.Severity),
		cmp.Compare(d.Consequence, o.Consequence), cmp.Compare(d.Remedy, o.Remedy), cmp.Compare(d.Object.Source, o.Object.Source),
	)
}
