package kube

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
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

	// keep takes over of an old row what did not change in a new one, so that it stays the same and not only equal; nil where there is nothing.
	keep func(old, next *T)

	mu     sync.Mutex
	names  []types.NamespacedName // sorted
	rows   []*T                   // in that order
	lent   bool                   // somebody has rows: it is not changed any more
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
	old, changed := t.exchange(name, next)
	if changed {
		t.changed(old, next)
	}
}

func (t *table[T]) exchange(name types.NamespacedName, next *T) (old *T, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, known := t.find(name)
	if known {
		old = t.rows[i]
	}
	if old == nil && next == nil || old != nil && next != nil && t.same(old, next) {
		return old, false
	}
	if t.lent {
		t.rows, t.lent = slices.Clone(t.rows), false
	}
	switch {
	case next == nil:
		t.names, t.rows = slices.Delete(t.names, i, i+1), slices.Delete(t.rows, i, i+1)
	case known:
		t.replaces(old, next)
		t.rows[i] = next
	default:
		t.names, t.rows = slices.Insert(t.names, i, name), slices.Insert(t.rows, i, next)
	}
	return old, true
}

func (t *table[T]) find(name types.NamespacedName) (int, bool) {
	return slices.BinarySearchFunc(t.names, name, compareNames)
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

func (t *table[T]) replaces(old, next *T) {
	if t.keep != nil {
		t.keep(old, next)
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
	changed := !t.synced || len(next) != len(t.rows)
	gone := map[types.NamespacedName]*T{}
	for i, name := range t.names {
		old := t.rows[i]
		switch r := next[name]; {
		case r == nil:
			gone[name] = old
		case t.same(old, r):
			next[name] = old
			continue
		default:
			t.replaces(old, r)
		}
		changed = true
	}
	t.tellGone(gone, len(next))
	t.synced = true
	if !changed {
		return false
	}
	t.names = slices.SortedFunc(maps.Keys(next), compareNames)
	t.rows, t.lent = make([]*T, 0, len(next)), false
	for _, name := range t.names {
		t.rows = append(t.rows, next[name])
	}
	return true
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

// all are the rows by name, which nobody changes: the same slice while nothing changed.
func (t *table[T]) all() []*T {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lent = true
	return t.rows
}

// each calls f with each row by name; f must ask nothing of the table.
func (t *table[T]) each(f func(*T)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		f(r)
	}
}

// list returns the values by name.
func (t *table[T]) list() []T {
	rows := t.all()
	out := make([]T, 0, len(rows))
	for _, r := range rows {
		out = append(out, *r)
	}
	return out
}

func (t *table[T]) get(namespace, name string) (T, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, known := t.find(types.NamespacedName{Namespace: namespace, Name: name}); known {
		return *t.rows[i], true
	}
	var none T
	return none, false
}
