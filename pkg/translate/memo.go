package translate

// memo keeps values by the exact argument that they were built from: what is found was built from the same argument, so nothing can be stale.
// sweep forgets what was not asked for since the last sweep, so that memory follows the snapshot.
type memo[K comparable, V any] struct {
	entries map[K]*memoEntry[V]
	round   uint64
}

type memoEntry[V any] struct {
	value V
	round uint64
}

func (m *memo[K, V]) lookup(key K) (V, bool) {
	e, found := m.entries[key]
	if !found {
		var none V
		return none, false
	}
	e.round = m.round
	return e.value, true
}

func (m *memo[K, V]) store(key K, value V) {
	if m.entries == nil {
		m.entries = map[K]*memoEntry[V]{}
	}
	m.entries[key] = &memoEntry[V]{value: value, round: m.round}
}

func (m *memo[K, V]) sweep() {
	for k, e := range m.entries {
		if e.round != m.round {
			delete(m.entries, k)
		}
	}
	m.round++
}
