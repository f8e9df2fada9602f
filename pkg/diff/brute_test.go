package diff_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/diff"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

func drawRequest(t *rapid.T) model.HTTPRequest {
	r := model.HTTPRequest{
		Method: rapid.SampledFrom([]string{"GET", "POST", "get", "PUT"}).Draw(t, "method"),
		Host:   rapid.SampledFrom([]string{"cart", "cart.shop", "x.shop", "other", "CART:80", "two..dots"}).Draw(t, "host"),
		Path:   rapid.SampledFrom([]string{"/", "/a", "/a/b", "/ab", "/b", "/a;x", "/%61", "/%01", "/b?q=/a", "/c"}).Draw(t, "path"),
	}
	for _, v := range rapid.SampledFrom([][]string{nil, nil, {"1"}, {"2"}, {"1", "2"}, {"1", "1"}}).Draw(t, "headers") {
		r.Headers = append(r.Headers, model.Header{Name: "x", Value: v})
	}
	return r
}

// comparison is a drawn edit, and what the evaluators are asked about it.
type comparison struct {
	before, after         *model.Index // as diff sees them
	evalBefore, evalAfter *model.Index // with everybody who is asked about
	found                 *diff.Found
	parties               []party
	judge                 *judge
}

func newComparison(before, after *model.Snapshot, strangers []party, plain netip.Addr) *comparison {
	var indexer model.Indexer
	c := &comparison{before: indexer.Index(before), after: indexer.Index(after), judge: &judge{known: map[string]bool{}}}
	c.found = diff.Find(c.before, c.after)
	c.parties = append(append(standing(before), outside()...), strangers...)
	for i := range c.parties {
		if c.parties[i].name == "web/plain" {
			c.parties[i].address = plain
		}
	}
	c.evalBefore, c.evalAfter = model.NewIndex(with(before, c.parties)), model.NewIndex(with(after, c.parties))
	return c
}

// l7 compares, for every callee, port, caller and request, what is reported with what the evaluator says.
func (c *comparison) l7(requests []model.HTTPRequest) error {
	ports := []uint16{1, 80, 85, 90, 91, 92, 53, 14999, 15006, 65535}
	for i := range c.before.Snapshot.Pods {
		pod := c.before.Snapshot.Pods[i]
		was, is := c.evalBefore.WorkloadOf(pod.Namespace, pod.Name), c.evalAfter.WorkloadOf(pod.Namespace, pod.Name)
		classes := c.found.Subject(diff.L7, model.Ingress, c.before.WorkloadOf(pod.Namespace, pod.Name))
		for _, p := range c.parties {
			m := matching(c.evalBefore, c.evalAfter, p)
			for _, port := range ports {
				flipping := classes(m, diff.PortRange{Protocol: model.TCP, From: port, To: port})
				for j := range requests {
					r := model.Request{Source: p.address, Port: port, HTTP: &requests[j]}
					before, after := eval.Ingress(c.evalBefore, was, r), eval.Ingress(c.evalAfter, is, r)
					if err := c.check(flipping, r.HTTP, diff.Verdict(before), diff.Verdict(after)); err != nil {
						return fmt.Errorf("%s -> %s/%s:%d %+v: %w", p, pod.Namespace, pod.Name, port, requests[j], err)
					}
				}
			}
		}
	}
	return nil
}

func (c *comparison) party(pod string) party {
	return c.parties[slices.IndexFunc(c.parties, func(p party) bool { return p.name == pod })]
}

func (c *comparison) check(flipping []diff.Class, r *model.HTTPRequest, before, after diff.Verdict) error {
	covered := 0
	for _, x := range flipping {
		if !c.judge.covers(x, r) {
			continue
		}
		covered++
		if x.Before != before || x.After != after {
			return fmt.Errorf("reported as %v, then %v; it is %v, then %v", x.Before, x.After, before, after)
		}
		if (x.Effect == diff.EffectOpens) != after.Allowed {
			return fmt.Errorf("reported as one that %s", x.Effect)
		}
	}
	if flips := before.Allowed != after.Allowed; flips != (covered > 0) || covered > 1 {
		return fmt.Errorf("it is %v, then %v, and reported %d times", before, after, covered)
	}
	return nil
}

// l4 does the same with NetworkPolicies, at either end.
func (c *comparison) l4() error {
	was, is := kernelOf(c.before), kernelOf(c.after)
	for i := range c.before.Snapshot.Pods {
		pod := c.before.Snapshot.Pods[i]
		if pod.HostNetwork {
			continue
		}
		governed := c.party(pod.Namespace + "/" + pod.Name)
		for _, d := range []model.Direction{model.Ingress, model.Egress} {
			classes := c.found.Subject(diff.L4, d, c.before.WorkloadOf(pod.Namespace, pod.Name))
			for _, p := range c.parties {
				if p.name == governed.name {
					continue // a pod is never cut off from itself; two pods of a workload can be
				}
				m := matching(c.evalBefore, c.evalAfter, p)
				for _, protocol := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
					for _, port := range []uint16{1, 53, 54, 80, 85, 90, 91, 92, 100, 15006, 65535} {
						before, after := passes(was, c.evalBefore, d, governed, p, port, protocol), passes(is, c.evalAfter, d, governed, p, port, protocol)
						flipping := classes(m, diff.PortRange{Protocol: protocol, From: port, To: port})
						if len(flipping) > 1 || (len(flipping) == 1) != (before != after) || len(flipping) == 1 && (flipping[0].Before.Allowed != before || flipping[0].After.Allowed != after) {
							return fmt.Errorf("%s of %s, with %s, %s %d: it is %t, then %t, and reported as %+v", d, governed.name, p, protocol, port, before, after, flipping)
						}
					}
				}
			}
		}
	}
	return nil
}

// Exactly those verdicts flip that are reported: for everybody, to everybody, on every port, with every request.
func TestFlipsAreThoseOfTheEvaluators(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := drawWorld(t)
		after := drawEdit(t, before)
		c := newComparison(before, after, drawStrangers(t, 12), netip.MustParseAddr(rapid.SampledFrom([]string{"fd00::77", "10.0.0.55", "10.0.1.55", "203.0.113.55", "203.0.113.222", "10.77.0.1"}).Draw(t, "plain")))
		if !c.found.Complete() {
			t.Fatal("not answered whole")
		}
		if err := c.l7(rapid.SliceOfN(rapid.Custom(drawRequest), 8, 8).Draw(t, "requests")); err != nil {
			t.Fatal(err)
		}
		if err := c.l4(); err != nil {
			t.Fatal(err)
		}
	})
}

// Whoever and whatever a report shows really flips.
func TestWitnessesFlip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := drawWorld(t)
		after := drawEdit(t, before)
		c := newComparison(before, after, nil, unknown(77))
		for _, w := range c.found.Witnesses() {
			if err := c.witness(w); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// witness makes the caller stand, and asks.
func (c *comparison) witness(w diff.Witness) error {
	p := party{address: w.Address, namespace: w.Namespace, nsLabels: w.NamespaceLabels, labels: w.Labels, name: w.Namespace + "/witness"}
	switch {
	case w.Outside:
		p = party{address: w.Address}
	case w.Pod != "":
		for _, s := range c.parties {
			if s.name == w.Pod {
				p = s
			}
		}
		if w.Address.IsValid() { // the witness's
			p.address = w.Address
		}
	}
	everybody := append(slices.DeleteFunc(standing(c.before.Snapshot), func(s party) bool { return s.name == p.name }), p)
	was, is := model.NewIndex(with(c.before.Snapshot, everybody)), model.NewIndex(with(c.after.Snapshot, everybody))
	subject := w.Subject.Pods[0]
	var before, after bool
	if w.Layer == diff.L7 {
		r := model.Request{Source: p.address, Port: w.Port.From}
		if w.Request != nil {
			r.HTTP = &model.HTTPRequest{Method: w.Request.Method, Host: w.Request.Host, Path: w.Request.Path}
			if r.HTTP.Host == "" {
				r.HTTP.Host = "whoever"
			}
			for _, h := range w.Request.Headers {
				r.HTTP.Headers = append(r.HTTP.Headers, model.Header(h))
			}
		}
		before = eval.Ingress(was, was.WorkloadOf(subject.Namespace, subject.Name), r).Allowed
		after = eval.Ingress(is, is.WorkloadOf(subject.Namespace, subject.Name), r).Allowed
	} else {
		governed := p
		for _, s := range everybody {
			if s.name == subject.Namespace+"/"+subject.Name {
				governed = s
			}
		}
		if governed.name == p.name {
			return nil // of one pod; two pods of the workload flip
		}
		before = passes(kernelOf(c.before), was, w.Direction, governed, p, w.Port.From, w.Port.Protocol)
		after = passes(kernelOf(c.after), is, w.Direction, governed, p, w.Port.From, w.Port.Protocol)
	}
	if before == after || after != (w.Effect == diff.EffectOpens) {
		return fmt.Errorf("%s/%s: %+v (%s): %t, then %t", subject.Namespace, subject.Name, w, strings.TrimSpace(p.String()), before, after)
	}
	return nil
}
