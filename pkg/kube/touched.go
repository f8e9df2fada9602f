package kube

import (
	"maps"
	"slices"
	"sync"
)

// touched are the policies that something happened to, for one who looks at those alone.
type touched struct {
	mu   sync.Mutex
	uids map[string]bool
}

func (t *touched) add(policies ...*Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.uids == nil {
		t.uids = map[string]bool{}
	}
	for _, p := range policies {
		if p != nil {
			t.uids[p.UID] = true
		}
	}
}

func (t *touched) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := slices.Collect(maps.Keys(t.uids))
	t.uids = nil
	return out
}
