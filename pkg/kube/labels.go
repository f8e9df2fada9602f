package kube

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// sharedLabels makes equal labels one map, which nobody changes.
type sharedLabels struct {
	mu   sync.Mutex
	maps map[string]map[string]string // by content
}

// mostLabels bounds what is remembered. Beyond it everything is forgotten: what comes then is shared anew.
const mostLabels = 20_000

func (s *sharedLabels) of(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return labels
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		b.WriteString(key)
		b.WriteByte('=')
		b.WriteString(labels[key])
		b.WriteByte(',') // neither stands in a label
	}
	content := b.String()
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, found := s.maps[content]; found {
		return known
	}
	if s.maps == nil || len(s.maps) >= mostLabels {
		s.maps = map[string]map[string]string{}
	}
	s.maps[content] = labels
	return labels
}
