package diff

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Bounds on what a line of text lists.
const (
	mostListed   = 8
	mostRequests = 4
)

const tooLargeText = "the question is too large to be answered whole: more than what is shown may flip here"

// Write tells a report to people.
func Write(out io.Writer, r *Report) error {
	w := &writer{out: out}
	w.report(r)
	return w.err
}

type writer struct {
	out io.Writer
	err error
}

func (w *writer) line(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.out, format+"\n", args...)
	}
}

func (w *writer) report(r *Report) {
	if len(r.Flips) == 0 {
		w.line("No verdict flips.")
	}
	for i := 0; i < len(r.Flips); {
		end := i + 1
		for end < len(r.Flips) && sameEnds(&r.Flips[i], &r.Flips[end]) {
			end++
		}
		w.block(r.Flips[i:end])
		i = end
	}
	w.standing("Workloads that stand only after the edit, of which no verdict can flip", r.Added)
	w.standing("Workloads that stand only before the edit, of which no verdict can flip", r.Removed)
	if len(r.Flips) > 0 {
		w.line("%s", r.Summary())
	}
}

func (w *writer) standing(what string, names []string) {
	if len(names) > 0 {
		w.line("%s: %s", what, workloads(names))
	}
}

func sameEnds(a, b *Flip) bool {
	return a.Effect == b.Effect && a.OtherEndShuts == b.OtherEndShuts && a.Callers.String() == b.Callers.String() && a.Callees.String() == b.Callees.String()
}

// block tells of flips between the same ends.
func (w *writer) block(flips []Flip) {
	f := &flips[0]
	what := strings.ToUpper(string(f.Effect))
	if f.OtherEndShuts {
		what += " AT ONE END"
	}
	w.line("%s: %s -> %s", what, f.Callers, f.Callees)
	var guards []string
	for i := range flips {
		guards = append(guards, flips[i].Guards...)
	}
	slices.Sort(guards)
	if guards = slices.Compact(guards); len(guards) > 0 {
		w.line("  guarded by %s", strings.Join(guards, ", "))
	}
	for _, l := range lines(flips) {
		w.line("  %s, %s: %s", l.flip.Layer, portsText(l.flip.Layer, l.ports), l.reason())
		for _, r := range l.flip.Requests[:min(len(l.flip.Requests), mostRequests)] {
			w.line("      such as %s", r.String())
		}
		if more := len(l.flip.Requests) - mostRequests; more > 0 {
			w.line("      and %d more classes of requests", more)
		}
	}
	w.line("")
}

// line are flips that are told in one line: between the same ends, with the same requests.
type line struct {
	flip          *Flip
	ports         []PortRange
	before, after []Verdict
}

func lines(flips []Flip) []line {
	var out []line
	at := map[string]int{}
	for i := range flips {
		f := &flips[i]
		key := fmt.Sprint(f.Layer, f.Direction, f.Before.Allowed, f.After.Allowed, f.Requests)
		j, known := at[key]
		if !known {
			j = len(out)
			at[key] = j
			out = append(out, line{flip: f})
		}
		l := &out[j]
		l.ports, l.before, l.after = joinPorts(append(l.ports, f.Ports...)), append(l.before, f.Before), append(l.after, f.After)
	}
	return out
}

// reason tells what decided before, and what decides after.
func (l *line) reason() string {
	f := l.flip
	if f.Effect == EffectMayFlip {
		return tooLargeText
	}
	out := fmt.Sprintf("was %s, now %s", verdicts(l.before), verdicts(l.after))
	if f.Layer == L4 {
		out += fmt.Sprintf(" (%s of %s)", f.Direction, map[model.Direction]string{model.Ingress: "the callee", model.Egress: "the caller"}[f.Direction])
	}
	if f.OtherEndShuts {
		shuts := map[Effect]string{EffectOpens: "shut it", EffectCloses: "shut it before"}[f.Effect]
		out += map[model.Direction]string{model.Ingress: "; the caller's own egress rules ", model.Egress: "; the callee's own ingress rules "}[f.Direction] + shuts
	}
	return out
}

// verdicts are alike but for what decides.
func verdicts(list []Verdict) string {
	var deciders []string
	for _, v := range list {
		if !slices.Contains(deciders, v.Decider) {
			deciders = append(deciders, v.Decider)
		}
	}
	return Verdict{list[0].Allowed, strings.Join(deciders, " or ")}.String()
}

// String is allow or deny, and by what.
func (v Verdict) String() string {
	if v.Allowed {
		return "allowed by " + v.Decider
	}
	return "denied by " + v.Decider
}

// Summary counts.
func (r *Report) Summary() string {
	count, atOneEnd := map[Effect]int{}, map[Effect]int{}
	for i := range r.Flips {
		f := &r.Flips[i]
		count[f.Effect]++
		if f.OtherEndShuts {
			atOneEnd[f.Effect]++
		}
	}
	var out []string
	for _, x := range []struct {
		effect Effect
		word   string
	}{{EffectOpens, "opened"}, {EffectCloses, "closed"}} {
		text := fmt.Sprintf("%d %s", count[x.effect], x.word)
		if n := atOneEnd[x.effect]; n > 0 {
			text += fmt.Sprintf(" (%d at one end only)", n)
		}
		out = append(out, text)
	}
	if n := count[EffectMayFlip]; n > 0 {
		out = append(out, fmt.Sprintf("%d not answered whole", n))
	}
	return strings.Join(out, ", ")
}

// portsText lists ports, or those that are left out where that is shorter.
func portsText(l Layer, list []PortRange) string {
	list = joinPorts(list)
	var left []PortRange
	for _, protocol := range l.protocols() {
		left = append(left, without(protocol, list)...)
	}
	left = joinPorts(left)
	all := "every port"
	if l == L7 {
		all = "every TCP port"
	}
	switch {
	case len(left) == 0:
		return all
	case len(left) < len(list) && l == L7:
		return all + " but " + strings.TrimPrefix(rangesText(left), string(model.TCP)+" ")
	case len(left) < len(list):
		return all + " but " + rangesText(left)
	}
	return rangesText(list)
}

func rangesText(list []PortRange) string {
	var out []string
	protocol := model.Protocol("")
	for _, p := range list {
		text := strconv.Itoa(int(p.From))
		switch {
		case p == every(p.Protocol):
			text = "every port"
		case p.From != p.To:
			text += "-" + strconv.Itoa(int(p.To))
		}
		if p.Protocol != protocol {
			text = string(p.Protocol) + " " + text
			protocol = p.Protocol
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// listed joins words, up to a number of them.
func listed(words []string) string {
	out := strings.Join(words[:min(len(words))], ", ")
	if more := len(words) - mostListed; more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}

// workloads joins names, saying a namespace once for those that follow each other in it.
func workloads(names []string) string {
	short := slices.Clone(names)
	namespace := ""
	for i := range short {
		ns, name, _ := strings.Cut(names[i], "/")
		if ns == namespace {
			short[i] = name
		}
		namespace = ns
	}
	return listed(short)
}

// String is for people.
func (p Parties) String() string {
	if !p.Anyone {
		return p.Members.String()
	}
	if but := p.But.String(); but != "" {
		return "anyone but " + but
	}
	return "anyone"
}

// String is for people.
func (m Members) String() string {
	var out []string
	if len(m.Workloads) > 0 {
		out = append(out, workloads(m.Workloads))
	}
	var pods []string
	for _, p := range m.Pods {
		pods = append(pods, p.String())
	}
	if len(pods) > 0 {
		out = append(out, listed(pods))
	}
	if len(m.Addresses) > 0 {
		out = append(out, "addresses "+listed(m.Addresses))
	}
	return strings.Join(out, "; ")
}

// String is for people.
func (p Pods) String() string {
	out := "any other pod"
	if p.Labels != "" {
		out = "pods with " + p.Labels
	}
	switch {
	case len(p.Namespaces) == 0:
		out += " of any namespace"
	case len(p.Namespaces) == 1 && p.Namespaces[0] == ToCome:
		out += " of a namespace to come"
	default:
		var names []string
		for _, ns := range p.Namespaces {
			if ns != ToCome {
				names = append(names, ns)
			}
		}
		out += " of " + listed(names)
		if len(names) < len(p.Namespaces) {
			out += " or a namespace to come"
		}
	}
	if p.NamespaceLabels != "" {
		out += " with " + p.NamespaceLabels
	}
	if len(p.Addresses) > 0 {
		out += " at " + listed(p.Addresses)
	}
	return out
}

// String is how the request would be written to a person.
func (r *Request) String() string {
	out := r.Method + " " + r.Path
	if r.Host != "" {
		out += " of host " + r.Host
	}
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, h.Name+": "+h.Value)
	}
	if len(headers) > 0 {
		out += " with " + strings.Join(headers, ", ")
	}
	return out
}

// String is one line: what flips between whom, by what, and one request.
func (f *Flip) String() string {
	what := string(f.Effect)
	if f.OtherEndShuts {
		what += " at one end"
	}
	out := fmt.Sprintf("%s on %s %s from %s to %s: ", what, f.Layer, portsText(f.Layer, f.Ports), f.Callers, f.Callees)
	if f.Effect == EffectMayFlip {
		return out + tooLargeText
	}
	out += "now " + f.After.String()
	if len(f.Requests) > 0 {
		out += ", such as " + f.Requests[0].String()
	}
	if len(f.Guards) > 0 {
		out += "; guarded by " + strings.Join(f.Guards, ", ")
	}
	return out
}
