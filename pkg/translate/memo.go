package translate

// memo keeps values by the exact argument that they were built from: what is found was built from the same argument, so nothing can be stale.
type memo[K comparable, V any] struct {
	entries map[K]V
	swept   int // how many there were after the last sweep
}

func (m *memo[K, V]) lookup(key K) (V, bool) {
	v, found := m.entries[key]
	return v, found
}

func (m *memo[K, V]) store(key K, value V) {
	if m.entries == nil {
		m.entries = map[K]V{}
	}
	m.entries[key] = value
}

// sweep forgets what is not used, when that may be half of all, so that memory follows the snapshot and an edit does not look at everything.
func (m *memo[K, V]) sweep(used func(yield func(K))) {
	const few = 64
	if len(m.entries) <= 2*m.swept+few {
		return
	}
	next := make(map[K]V, len(m.entries)/2)
	used(func(key K) {
		if v, found := m.entries[key]; found {
			next[key] = v
		}
	})
	m.entries, m.swept = next, len(next)
}
