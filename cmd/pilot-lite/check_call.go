package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/check"
	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// call is a question and its answer.
type call struct {
	from   eval.Party
	to     check.Callee
	sent   *model.HTTPRequest
	answer check.Answer
}

// mostMisses is how many rules that come near are shown.
const mostMisses = 3

func printCalls(w io.Writer, calls []call) error {
	p := &printer{w: w}
	allowed := 0
	for i, c := range calls {
		if i > 0 {
			p.line("")
		}
		if c.answer.Verdict.Allowed {
			allowed++
		}
		p.call(&c)
	}
	if len(calls) > 1 {
		p.line("")
		p.line("%d calls: %d allowed, %d denied", len(calls), allowed, len(calls)-allowed)
	}
	p.standsIn(calls)
	return p.err
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) call(c *call) {
	p.line("%s -> %s: %s", c.from, c.what(), c.verdict())
	for _, s := range c.answer.Trace.Steps {
		p.step(c, &s)
	}
}

// standsIn tells of addresses that are not those of the pods.
func (p *printer) standsIn(calls []call) {
	var words []string
	for _, c := range calls {
		for _, end := range []eval.Party{c.from, c.to.Party} {
			if word := end.Address.String() + " for " + end.String(); convert.StandsIn(end.Address) && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	if len(words) > 0 {
		p.line("")
		p.line("Addresses of pods that do not run yet are made up: %s.", strings.Join(words, ", "))
	}
}

// what is the callee, its port and the request.
func (c *call) what() string {
	text := fmt.Sprintf("%s port %d", c.to.Party, c.to.Port)
	if c.to.Protocol != model.TCP {
		text += " " + strings.ToLower(string(c.to.Protocol))
	}
	if c.sent != nil {
		text += ", " + c.sent.Method + " " + oneLine(c.sent.Path)
	}
	return text
}

func (c *call) verdict() string {
	v := c.answer.Verdict
	if v.Allowed {
		return "ALLOWED (" + v.Decider + ")"
	}
	return "DENIED at " + layerOf(c.deniedAt()) + " (" + v.Decider + ")"
}

// deniedAt is the step that refuses.
func (c *call) deniedAt() eval.StepName {
	for _, s := range c.answer.Trace.Steps {
		if s.Applies && !s.Verdict.Allowed && s.Name != eval.StepCapture {
			return s.Name
		}
	}
	return eval.StepL7
}

func layerOf(s eval.StepName) string {
	switch s {
	case eval.StepEgress:
		return "L3/4, the caller's egress"
	case eval.StepIngress:
		return "L3/4, the callee's ingress"
	case eval.StepCapture, eval.StepL7:
	}
	return "L7, the callee's sidecar"
}

func stepTitle(s eval.StepName) string {
	switch s {
	case eval.StepEgress:
		return "caller's egress, L3/4"
	case eval.StepIngress:
		return "callee's ingress, L3/4"
	case eval.StepCapture:
		return "capture"
	case eval.StepL7:
	}
	return "callee's sidecar, L7"
}

func (p *printer) step(c *call, s *eval.Step) {
	switch r := c.answer.Sidecar; {
	case s.Name != eval.StepL7 || r == nil:
	case r.Refusal != nil:
		p.line("  %-22s  refused by the sidecar itself with status %d, before any policy is asked: %s", stepTitle(s.Name), r.Refusal.Status, r.Refusal.Reason)
		return
	case r.Seen != nil && r.Seen.Path != c.sent.Path:
		p.line("  %-22s  the path is normalized to %s", "", oneLine(r.Seen.Path))
	}
	p.line("  %-22s  %s", stepTitle(s.Name), s.Text)
	for i, m := range s.Nearest {
		if i == mostMisses {
			p.line("  %-22s  and %d more that fail", "", len(s.Nearest)-i)
			break
		}
		word := "nearest: "
		if i > 0 {
			word = "next: "
		}
		p.line("  %-22s  %s%s", "", word, m)
	}
	if d := s.DryRun; d != nil && d.Allowed != s.Verdict.Allowed {
		p.line("  %-22s  with DryRun policies in force it would be %s (%s)", "", past(d.Allowed), d.Decider)
	}
}

func past(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "denied"
}

// jsonCall is a call as it is printed.
type jsonCall struct {
	Verdict      string       `json:"verdict"` // allow or deny
	Decider      string       `json:"decider"`
	DeniedAt     string       `json:"deniedAt,omitempty"` // the step that refuses
	From         jsonParty    `json:"from"`
	To           jsonParty    `json:"to"`
	Request      *jsonRequest `json:"request,omitempty"`
	Seen         *jsonRequest `json:"seen,omitempty"` // as the sidecar makes it
	Steps        []jsonStep   `json:"steps"`
	Sidecar      *jsonSidecar `json:"sidecar,omitempty"` // what the generated configuration decides
	NotAsked     string       `json:"sidecarNotAsked,omitempty"`
	Disagreement string       `json:"disagreement,omitempty"`
}

type jsonParty struct {
	Name     string         `json:"name"`
	Pod      string         `json:"pod,omitempty"`
	Address  string         `json:"address,omitempty"`
	StandsIn bool           `json:"standsIn,omitempty"` // the address is not the pod's own: it does not run yet
	Port     uint16         `json:"port,omitempty"`
	Protocol model.Protocol `json:"protocol,omitempty"`
}

type jsonRequest struct {
	Method  string       `json:"method"`
	Host    string       `json:"host"`
	Path    string       `json:"path"`
	Headers []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type jsonStep struct {
	Step    string      `json:"step"`
	Applies bool        `json:"applies"`
	Verdict string      `json:"verdict"`
	Decider string      `json:"decider"`
	Text    string      `json:"text"`
	Nearest []jsonMiss  `json:"nearest,omitempty"`
	DryRun  *jsonDryRun `json:"dryRun,omitempty"`
}

type jsonMiss struct {
	Rule    string `json:"rule"`
	Term    string `json:"term"`
	Reason  string `json:"reason"`
	Failing int    `json:"failing"`
}

type jsonDryRun struct {
	Verdict string `json:"verdict"`
	Decider string `json:"decider"`
}

type jsonSidecar struct {
	Verdict string `json:"verdict"`
	Outcome string `json:"outcome"`
	Name    string `json:"name,omitempty"`
	Chain   string `json:"chain,omitempty"`
	Refusal string `json:"refusal,omitempty"`
}

func jsonCalls(calls []call) []jsonCall {
	out := make([]jsonCall, 0, len(calls))
	for _, c := range calls {
		a := &c.answer
		j := jsonCall{
			Verdict: verdictWord(a.Verdict.Allowed), Decider: a.Verdict.Decider, From: jsonPartyOf(c.from), To: jsonPartyOf(c.to.Party), Request: jsonRequestOf(c.sent),
			NotAsked: a.NotAsked, Disagreement: a.Disagreement,
		}
		j.To.Port, j.To.Protocol = c.to.Port, c.to.Protocol
		if !a.Verdict.Allowed {
			j.DeniedAt = string(c.deniedAt())
		}
		for _, s := range a.Trace.Steps {
			j.Steps = append(j.Steps, jsonStepOf(&s))
		}
		if v := a.Sidecar; v != nil {
			j.Seen = jsonRequestOf(v.Seen)
			j.Sidecar = &jsonSidecar{Verdict: verdictWord(v.Allowed), Outcome: string(v.Outcome), Name: v.Name, Chain: v.Chain}
			if v.Refusal != nil {
				j.Sidecar.Refusal = fmt.Sprintf("%d %s", v.Refusal.Status, v.Refusal.Reason)
			}
		}
		out = append(out, j)
	}
	return out
}

func verdictWord(allowed bool) string {
	if allowed {
		return "allow"
	}
	return "deny"
}

func jsonPartyOf(p eval.Party) jsonParty {
	out := jsonParty{Name: p.String(), StandsIn: convert.StandsIn(p.Address)}
	if p.Pod != nil {
		out.Pod = p.Pod.Namespace + "/" + p.Pod.Name
	}
	if p.Address.IsValid() {
		out.Address = p.Address.String()
	}
	return out
}

func jsonRequestOf(r *model.HTTPRequest) *jsonRequest {
	if r == nil {
		return nil
	}
	out := &jsonRequest{Method: r.Method, Host: r.Host, Path: r.Path}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, jsonHeader(h))
	}
	return out
}

func jsonStepOf(s *eval.Step) jsonStep {
	out := jsonStep{Step: string(s.Name), Applies: s.Applies, Verdict: verdictWord(s.Verdict.Allowed), Decider: s.Verdict.Decider, Text: s.Text}
	for _, m := range s.Nearest {
		out.Nearest = append(out.Nearest, jsonMiss{m.Rule, string(m.Term), m.Reason, m.Failing})
	}
	if s.DryRun != nil {
		out.DryRun = &jsonDryRun{verdictWord(s.DryRun.Allowed), s.DryRun.Decider}
	}
	return out
}
