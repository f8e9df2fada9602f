// Package guard answers whether an edit of a policy opens what is guarded, within a deadline. Input: a source of snapshots, and the edit. Output: what opens, in words, or
// that it could not be found out. One entry point: Guard.Opens.
package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/diff"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Source has the present snapshot; false until everything was read once.
type Source interface {
	Snapshot() (*model.Snapshot, bool)
}

// Guard answers one question at a time, so that questions, which cost something, cost no more than one processor. Safe for concurrent use.
type Guard struct {
	source  Source
	seat    chan struct{} // taken while a question is being answered
	indexer model.Indexer // used by whoever has the seat
	flips   func(before, after *model.Index, stop func() bool) ([]diff.Flip, bool)
}

// New returns a guard.
func New(source Source) *Guard {
	return &Guard{source: source, seat: make(chan struct{}, 1), flips: diff.Guarded}
}

// Opens tells what an edit opens of what was guarded before it; without before a policy is made, without after one is deleted. An edit in a namespace in which nothing is
// guarded opens nothing. An error says why it could not be found out: then it may open something.
func (g *Guard) Opens(ctx context.Context, before, after *model.Policy) ([]string, error) {
	snapshot, complete := g.source.Snapshot()
	if !complete {
		return nil, errors.New("the cluster was not read whole yet")
	}
	if !guarded(snapshot, before, after) {
		return nil, nil
	}
	select {
	case g.seat <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("other edits are being looked at: %w", context.Cause(ctx))
	}
	answers := make(chan answer, 1)
	go func() {
		defer func() { <-g.seat }()
		answers <- g.answer(ctx, snapshot, before, after)
	}()
	select {
	case a := <-answers:
		return a.opens, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// guarded says whether anything in the policy's namespace is, before the edit. A policy decides about pods of its own namespace alone.
func guarded(s *model.Snapshot, before, after *model.Policy) bool {
	if before != nil && before.Guarded {
		return true
	}
	p := before
	if p == nil {
		p = after
	}
	return slices.ContainsFunc(s.Namespaces, func(ns model.Namespace) bool { return ns.Guarded && ns.Name == p.Namespace }) ||
		slices.ContainsFunc(s.Policies, func(o *model.Policy) bool { return o.Guarded && o.Namespace == p.Namespace })
}

type answer struct {
	opens []string
	err   error
}

func (g *Guard) answer(ctx context.Context, snapshot *model.Snapshot, before, after *model.Policy) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{err: fmt.Errorf("a fault in the comparison: %v", p)}
		}
	}()
	// What the API server says of the edited policy is newer than what was read.
	was := replace(snapshot, after, before)
	is := replace(was, before, after)
	flips, complete := g.flips(g.indexer.Index(was), g.indexer.Index(is), func() bool { return ctx.Err() != nil })
	if !complete {
		return answer{err: context.Cause(ctx)}
	}
	for i := range flips {
		a.opens = append(a.opens, flips[i].String())
	}
	return a
}

// replace is a snapshot in which one policy stands in the other's place; either may be none.
func replace(s *model.Snapshot, old, next *model.Policy) *model.Snapshot {
	edit := &convert.Edit{}
	if next != nil {
		edit.Policies = []*model.Policy{next}
	} else {
		edit.Gone = func(p *model.Policy) bool { return p.Namespace == old.Namespace && p.Name == old.Name }
	}
	out, _ := convert.Over(s, edit)
	return out
}
