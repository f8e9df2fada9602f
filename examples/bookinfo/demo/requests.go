package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// sent is a request that was sent, with what it got.
type sent struct {
	request  *request
	caller   string
	source   netip.Addr
	callee   *workload
	host     string
	got      verdict
	expected verdict
	logged   bool
}

func (s *sent) good() bool {
	return s.got.allowed == s.expected.allowed && (s.got.decider == s.expected.decider || s.got.decider == "" && s.request.tcp && s.got.allowed)
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
	type caller struct {
		name   string
		source netip.Addr
	}
	callers := make([]caller, 0, len(w.workloads)+1)
	for _, each := range w.workloads {
		callers = append(callers, caller{each.name, each.address})
	}
	callers = append(callers, caller{outsider, w.outsider})
	var all []*sent
	table := graph()
	for _, callee := range w.workloads {
		for i := range table {
			for _, c := range callers {
				if r := &table[i]; r.app == callee.app && c.name != callee.name {
					all = append(all, &sent{
						request: r, caller: c.name, source: c.source, callee: callee, expected: r.expected(c.name),
						host: "request-" + strconv.Itoa(len(all)) + ".demo",
					})
				}
			}
		}
	}
	for _, s := range all {
		var err error
		if s.got.allowed, err = send(ctx, from(s.source, closes), s.request, s.callee, s.host); err != nil {
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
		if s.request.tcp {
			key = fmt.Sprint(s.source, " ", s.callee.listen(s.request.port).Port())
		}
		e := logs[s.callee.name][key]
		if e == nil {
			return fmt.Errorf("no line for %s from %s to %s", s.request, s.caller, s.callee.name)
		}
		s.got.decider, s.logged = e.decider(), true
	}
	return nil
}

// group is requests that differ in their caller only, and got the same.
type group struct {
	callee, request string
	got, expected   verdict
	good            bool
	callers         []string
}

// grouped joins requests that got the same, in their order.
func grouped(all []*sent) []*group {
	var out []*group
	for _, s := range all {
		i := slices.IndexFunc(out, func(g *group) bool {
			return g.callee == s.callee.name && g.request == s.request.String() && g.got == s.got && g.expected == s.expected
		})
		if i < 0 {
			out, i = append(out, &group{callee: s.callee.name, request: s.request.String(), got: s.got, expected: s.expected, good: s.good()}), len(out)
		}
		out[i].callers = append(out[i].callers, s.caller)
	}
	return out
}

// from says who the callers are, of so many: a list of most of them would hide the point.
func (g *group) from(everybody, others int) string {
	switch {
	case len(g.callers) == everybody:
		return "anybody"
	case len(g.callers) == everybody-others && others > 0:
		return "anybody else"
	}
	return strings.Join(g.callers, ", ")
}
