package kube

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// table holds the converted objects of one kind. It is what a reflector writes to: an object is converted as it arrives, and its original is dropped,
// so that nothing is held twice and nothing that is not used. A list replaces the table at once: there is no state between two lists.
type table[T any] struct {
	kind    string
	logger  *slog.Logger
	metrics *Metrics
	// convert keeps what is used of an object; keep is false where that is nothing.
	convert func(object any) (value T, keep bool)
	// same says whether two values mean the same to everybody, so that the event is dropped.
	same func(a, b *T) bool
	// strip takes out of an object what is not used, before a list of them is collected.
	strip cache.TransformFunc
	// changed is called, outside the table's lock, after a row did: old is nil for a new one, new for one that is gone, and both after a list.
	changed func(old, new *T)
	// describe says of a row that is gone what people should know; nil where its name says it all.
	describe func(*T) string

	mu     sync.Mutex
	rows   map[types.NamespacedName]*T
	synced bool
}

var (
	_ cache.ReflectorStore    = (*table[int])(nil)
	_ cache.TransformingStore = (*table[int])(nil)
)

// Transformer is asked for by the reflector.
func (t *table[T]) Transformer() cache.TransformFunc { return t.strip }

// Add is a new object.
func (t *table[T]) Add(object any) error { return t.put(object) }

// Update is an object that may have changed.
func (t *table[T]) Update(object any) error { return t.put(object) }

// Resync has no meaning here.
func (t *table[T]) Resync() error { return nil }

// row converts an object; nil where nothing of it is used.
func (t *table[T]) row(object any) (types.NamespacedName, *T, error) {
	m, err := meta.Accessor(object)
	if err != nil {
		return types.NamespacedName{}, nil, fmt.Errorf("%s: %w", t.kind, err)
	}
	name := types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}
	value, keep := t.convert(object)
	if !keep {
		return name, nil, nil
	}
	return name, &value, nil
}

func (t *table[T]) put(object any) error {
	name, next, err := t.row(object)
	if err != nil {
		return err
	}
	t.set(name, next)
	return nil
}

// Delete is an object that is gone.
func (t *table[T]) Delete(object any) error {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return fmt.Errorf("%s: %w", t.kind, err)
	}
	t.set(types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}, nil)
	return nil
}

// set puts a row into its place, or takes it out, and tells of it if that changed anything.
func (t *table[T]) set(name types.NamespacedName, next *T) {
	t.mu.Lock()
	old := t.rows[name]
	changed := old != nil || next != nil
	switch {
	case next == nil:
		delete(t.rows, name)
	case old != nil && t.same(old, next):
		changed = false
	default:
		t.rows[name] = next
	}
	t.mu.Unlock()
	if changed {
		t.changed(old, next)
	}
}

// Replace is a complete list.
func (t *table[T]) Replace(objects []any, _ string) error {
	next := make(map[types.NamespacedName]*T, len(objects))
	for _, object := range objects {
		name, r, err := t.row(object)
		if err != nil {
			return err
		}
		if r != nil {
			next[name] = r
		}
	}
	if t.replace(next) {
		t.changed(nil, nil)
	}
	return nil
}

func (t *table[T]) replace(next map[types.NamespacedName]*T) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := !t.synced
	gone := map[types.NamespacedName]*T{}
	for name, old := range t.rows {
		switch r := next[name]; {
		case r == nil:
			gone[name] = old
		case t.same(old, r):
			next[name] = old
			continue
		}
		changed = true
	}
	changed = changed || len(next) != len(t.rows)
	t.tellGone(gone, len(next))
	t.rows, t.synced = next, true
	return changed
}

// tellGone: either they were deleted while nobody watched, or the API server was restored from a backup. People should know.
func (t *table[T]) tellGone(gone map[types.NamespacedName]*T, listed int) {
	if len(gone) == 0 {
		return
	}
	t.metrics.vanished(t.kind, len(gone))
	const most = 20 // names in a line
	var names []string
	for name, r := range gone {
		if t.describe != nil {
			names = append(names, name.String()+" "+t.describe(r))
		} else {
			names = append(names, name.String())
		}
	}
	slices.Sort(names)
	t.logger.Warn("objects are gone since the last list", "kind", t.kind, "gone", len(gone), "listed", listed, "names", names[:min(most, len(names))])
}

// size is how many rows there are.
func (t *table[T]) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.rows)
}

// hasSynced says whether a complete list has arrived.
func (t *table[T]) hasSynced() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.synced
}

// list returns the values, in any order.
func (t *table[T]) list() []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]T, 0, len(t.rows))
	for r := range maps.Values(t.rows) {
		out = append(out, *r)
	}
	return out
}

func (t *table[T]) get(namespace, name string) (T, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.rows[types.NamespacedName{Namespace: namespace, Name: name}]; r != nil {
		return *r, true
	}
	var none T
	return none, false
}
