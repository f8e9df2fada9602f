package xds

// maxRefusals bounds the memory of refused content.
const maxRefusals = 16384

// refusals is what nodes refused, beyond the stream on which they did.
type refusals struct {
	max  int
	seen map[refusal]struct{}
}

type refusal struct{ node, typeURL, name, version string }

func newRefusals() refusals { return refusals{max: maxRefusals, seen: map[refusal]struct{}{}} }

func refusalOf(node string, r *Resource) refusal { return refusal{node, r.Type, r.Name, r.Version} }

// has says whether a node refused this content.
func (m *refusals) has(node string, r *Resource) bool {
	_, ok := m.seen[refusalOf(node, r)]
	return ok
}

// remember notes a refusal, and says whether it is news, and whether all others had to be forgotten for it.
func (m *refusals) remember(node string, r *Resource) (news, full bool) {
	if m.has(node, r) {
		return false, false
	}
	if len(m.seen) >= m.max {
		clear(m.seen)
		full = true
	}
	m.seen[refusalOf(node, r)] = struct{}{}
	return true, full
}

// forget is for a node that has taken the content after all, in bytes that it had not seen.
func (m *refusals) forget(node string, r *Resource) { delete(m.seen, refusalOf(node, r)) }
