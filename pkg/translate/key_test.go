package translate

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// A memo is only as exact as its key. Every field of an argument, those to come included, must change the key when it alone changes: a list that is
// nil, empty, or longer, too.
func TestKeysAreExact(t *testing.T) {
	t.Parallel()
	exact(t, func(p *rbac.Policy, e *encoder) { e.policy(p) })
	exact(t, func(p *rbac.PortMap, e *encoder) { e.portMaps([]rbac.PortMap{*p}) })
	exact(t, func(in *inbound, e *encoder) { e.inbound(in) })
	exact(t, func(in *struct{ Ports []rbac.PortMap }, e *encoder) { e.portMaps(in.Ports) })
}

func exact[T any](t *testing.T, encode func(*T, *encoder)) {
	t.Helper()
	seen := map[string]int{}
	for changed := -1; ; changed++ {
		var value T
		m := &mutator{change: changed}
		m.fill(reflect.ValueOf(&value).Elem())
		if changed >= m.places {
			return
		}
		var e encoder
		encode(&value, &e)
		if earlier, found := seen[string(e)]; found {
			t.Errorf("%T: changes %d and %d have the same key: the second is %+v", value, earlier, changed, value)
		}
		seen[string(e)] = changed
	}
}

// mutator fills a value, differently at one place.
type mutator struct{ places, change int }

func (m *mutator) here() bool {
	m.places++
	return m.places-1 == m.change
}

func (m *mutator) fill(v reflect.Value) {
	switch v.Interface().(type) {
	case netip.Addr:
		choose(v, m.here(), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.1"))
		return
	case netip.Prefix:
		choose(v, m.here(), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/9"))
		return
	case netip.AddrPort:
		choose(v, m.here(), netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.1:2"))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			m.fill(field)
		}
	case reflect.Pointer:
		if m.here() {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		m.fill(v.Elem())
	case reflect.Slice:
		length := 1
		switch {
		case m.here():
			return
		case m.here():
			length = 0
		case m.here():
			length = 2
		}
		v.Set(reflect.MakeSlice(v.Type(), length, length))
		for i := range length {
			m.fill(v.Index(i))
		}
	case reflect.String:
		choose(v, m.here(), reflect.ValueOf("a").Convert(v.Type()).Interface(), reflect.ValueOf("b").Convert(v.Type()).Interface())
	case reflect.Bool:
		v.SetBool(m.here())
	case reflect.Int64:
		v.SetInt(1)
		if m.here() {
			v.SetInt(-2)
		}
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(1)
		if m.here() {
			v.SetUint(300)
		}
	default:
		panic("no sample for " + v.Type().String())
	}
}

func choose(v reflect.Value, second bool, a, b any) {
	if second {
		a = b
	}
	v.Set(reflect.ValueOf(a))
}
