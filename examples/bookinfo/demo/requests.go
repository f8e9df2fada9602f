package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo/graph"
)

// sent is a request that was sent, with what it got.
type sent struct {
	request  *graph.Request
	caller   string
	source   netip.Addr
	callee   *workload
	host     string
	got      graph.Verdict
	expected graph.Verdict
}

func (s *sent) good() bool {
	return s.got.Allowed == s.expected.Allowed && (s.got.Decider == s.expected.Decider || s.got.Decider == "" && s.request.TCP && s.got.Allowed)
}

// showRequests sends every request of the graph from every workload, and from somebody whom nobody knows, to every workload that it is meant for.
func (w *world) showRequests(ctx context.Context, out *output) (bool, error) {
	all, err := w.sendAll(ctx)
	if err != nil {
		return false, err
	}
	if err := w.eventually(ctx, "every request is logged", func(context.Context) error { return w.findDeciders(all) }); err != nil {
		return false, err
	}
	out.requests(all)
	return !slices.ContainsFunc(all, func(s *sent) bool { return !s.good() }), nil
}

func (w *world) sendAll(ctx context.Context) ([]*sent, error) {
	var all []*sent
	table := graph.Requests()
	for _, callee := range w.workloads {
		for i := range table {
			for _, caller := range w.callers() {
				if r := &table[i]; r.App == callee.app && caller != callee.name {
					all = append(all, &sent{
						request: r, caller: caller, source: w.addressOf(caller), callee: callee, expected: r.Expected(caller),
						host: "request-" + strconv.Itoa(len(all)) + ".demo",
					})
				}
			}
		}
	}
	for _, s := range all {
		var err error
		if s.got.Allowed, err = send(ctx, from(s.source, closes), s.request, s.callee, s.host); err != nil {
			return nil, fmt.Errorf("from %s: %w", s.caller, err)
		}
	}
	return all, nil
}

// findDeciders looks every request up in the access log of its callee's sidecar: HTTP by its host, a connection by its source and port, of which
// the graph has one each.
func (w *world) findDeciders(all []*sent) error {
	logs := map[string]map[string]*entry{}
	for _, each := range w.workloads {
		entries, err := accessLog(each.sidecar)
		if err != nil {
			return err
		}
		logs[each.name] = map[string]*entry{}
		for i := range entries {
			e := &entries[i]
			key := e.Host
			if key == "" {
				key = fmt.Sprint(e.Source, " ", e.Port)
			}
			logs[each.name][key] = e
		}
	}
	for _, s := range all {
		key := s.host
		if s.request.TCP {
			key = fmt.Sprint(s.source, " ", s.callee.listen(s.request.Port).Port())
		}
		e := logs[s.callee.name][key]
		if e == nil {
			return fmt.Errorf("no line for %s from %s to %s", s.request, s.caller, s.callee.name)
		}
		s.got.Decider = e.decider()
	}
	return nil
}

// group is requests that differ in their caller only, and got the same.
type group struct {
	order         int // of callee and request in the table
	callee        *workload
	request       *graph.Request
	got, expected graph.Verdict
	good          bool
	callers       []string
}

// grouped joins requests that got the same, in their order.
func grouped(all []*sent) []*group {
	var out []*group
	order := 0
	for _, s := range all {
		i := slices.IndexFunc(out, func(g *group) bool {
			return g.callee == s.callee && g.request == s.request && g.got == s.got && g.expected == s.expected
		})
		if i < 0 {
			i = len(out)
			if i > 0 && (out[i-1].callee != s.callee || out[i-1].request != s.request) {
				order++
			}
			out = append(out, &group{order: order, callee: s.callee, request: s.request, got: s.got, expected: s.expected, good: s.good()})
		}
		out[i].callers = append(out[i].callers, s.caller)
	}
	// Of one request, those that are few stand first: the edge before everybody else.
	slices.SortStableFunc(out, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(len(a.callers), len(b.callers)))
	})
	return out
}

// many is how many callers a line names one by one.
const many = 3

// from says who the callers are, where so many sent the request: a list of most of them would hide the point.
func (g *group) from(senders int) string {
	switch {
	case len(g.callers) == senders:
		return "anybody"
	case len(g.callers) > many:
		return "anybody else"
	}
	return strings.Join(g.callers, ", ")
}
