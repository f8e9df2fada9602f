package companion_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/kube/companion"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

func (p *plane) spoilWith(f func(*http.Request) (*http.Response, error)) {
	if f == nil {
		p.spoil.Store(nil)
		return
	}
	p.spoil.Store(&f)
}

// failures: what fails is tried again, what one object is refused holds up no other, and the state says so in the API server's words.
func (w *world) failures(t *testing.T) {
	times := func(n int64, answers func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
		var seen atomic.Int64
		return func(r *http.Request) (*http.Response, error) {
			if seen.Add(1) > n {
				return nil, nil
			}
			return answers(r)
		}
	}
	status := func(code int, reason metav1.StatusReason) func(*http.Request) (*http.Response, error) {
		return func(r *http.Request) (*http.Response, error) { return answer(r, code, reason, "injected"), nil }
	}
	for name, spoil := range map[string]func(*http.Request) (*http.Response, error){
		"409": times(3, status(http.StatusConflict, metav1.StatusReasonConflict)),
		"429": times(3, status(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)),
		"500": times(3, status(http.StatusInternalServerError, metav1.StatusReasonInternalError)),
		"503": times(3, status(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)),
		"broken connection": times(3, func(*http.Request) (*http.Response, error) {
			return nil, errors.New("injected: connection reset by peer")
		}),
	} {
		t.Run(name, func(t *testing.T) {
			p := w.idlePlane(t, w.Namespace(t, "failures", nil))
			p.spoilWith(spoil)
			p.start(t)
			p.stands(t, w.apply(t, p.namespace, cart))
		})
	}
	t.Run("no answer for one object", func(t *testing.T) {
		p := w.idlePlane(t, w.Namespace(t, "failures", nil))
		p.spoilWith(func(r *http.Request) (*http.Response, error) {
			if !strings.Contains(r.URL.Path, "/l7p-cart-") {
				return nil, nil
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		p.start(t)
		w.apply(t, p.namespace, cart)
		p.stands(t, w.apply(t, p.namespace, strings.ReplaceAll(cart, "cart", "basket")))
	})
	t.Run("403 for one object", func(t *testing.T) {
		p := w.idlePlane(t, w.Namespace(t, "failures", nil))
		p.spoilWith(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "/l7p-cart-http-") {
				return answer(r, http.StatusForbidden, metav1.StatusReasonForbidden, "injected: not you"), nil
			}
			return nil, nil
		})
		p.start(t)
		ref := w.apply(t, p.namespace, cart)
		other := w.apply(t, p.namespace, strings.ReplaceAll(cart, "cart", "basket"))
		got := p.reaches(t, ref, companion.Failed)
		if !strings.Contains(got.Message, "injected: not you") || !strings.HasPrefix(got.Object, "l7p-cart-http-") {
			t.Errorf("got %+v", got)
		}
		p.stands(t, other)
		apitest.Eventually(t, within, "the policy's other companions stand", func() error {
			if n := len(p.live(t)); n != 5 {
				return fmt.Errorf("%d stand", n)
			}
			return nil
		})
		// An edit is tried at once, whatever pause the refusal has earned.
		p.spoilWith(nil)
		p.stands(t, w.apply(t, p.namespace, strings.ReplaceAll(cart, "GET", "HEAD")))
	})
}

// leaders: who no longer leads writes nothing, who has an old view undoes nothing, and two who believe that they lead end up agreeing.
func (w *world) leaders(t *testing.T) {
	t.Run("a follower writes nothing", func(t *testing.T) {
		p := w.idlePlane(t, w.Namespace(t, "leaders", nil))
		p.follower.Store(true)
		p.start(t)
		ref := w.apply(t, p.namespace, cart)
		p.reaches(t, ref, companion.Pending)
		p.look(t)
		if n := p.requests.Load(); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("an old view undoes nothing", func(t *testing.T) {
		namespace := w.Namespace(t, "leaders", nil)
		p := w.plane(t, namespace)
		ref := w.apply(t, namespace, cart)
		p.stands(t, ref)
		old, _ := p.desired()
		next := w.apply(t, namespace, strings.ReplaceAll(cart, "8080", "9090"))
		p.stands(t, next)
		p.stop()
		stands := decided(p.live(t))

		late := w.idlePlane(t, namespace)
		late.frozen.Store(&old)
		late.start(t)
		late.reaches(t, ref, companion.Pending)
		late.look(t)
		if diff := cmp.Diff(stands, decided(p.live(t))); diff != "" {
			t.Errorf("what a later view made was changed (-before +now):\n%s", diff)
		}
		// Nor does a view that knows nothing of the policy yet delete what was made for it.
		late.frozen.Store(&companion.Desired{})
		late.look(t)
		if diff := cmp.Diff(stands, decided(p.live(t))); diff != "" {
			t.Errorf("what a later view made was deleted (-before +now):\n%s", diff)
		}
	})
	t.Run("nor does one between two that want the same", func(t *testing.T) {
		namespace := w.Namespace(t, "leaders", nil)
		p := w.plane(t, namespace)
		p.stands(t, w.apply(t, namespace, cart))
		stands := decided(p.live(t))
		p.stop()
		between := w.apply(t, namespace, strings.ReplaceAll(cart, "8080", "9090"))
		var old companion.Desired
		apitest.Eventually(t, within, "the edit is known", func() error {
			if old, _ = p.desired(); !slices.ContainsFunc(old.Policies, func(p *model.Policy) bool { return p.PolicyRef == between }) {
				return errors.New("not yet")
			}
			return nil
		})
		back := w.apply(t, namespace, cart)

		late := w.idlePlane(t, namespace)
		late.frozen.Store(&old)
		late.start(t)
		late.reaches(t, between, companion.Pending)
		late.look(t)
		if diff := cmp.Diff(stands, decided(p.live(t))); diff != "" {
			t.Errorf("what a later view left as it was is changed (-before +now):\n%s", diff)
		}
		late.stop()
		next := w.plane(t, namespace)
		next.stands(t, back)
		if n := next.requests.Load(); n != 0 {
			t.Errorf("%d requests for what stands", n)
		}
	})
	t.Run("two leaders agree", func(t *testing.T) {
		namespace := w.Namespace(t, "leaders", nil)
		planes := []*plane{w.plane(t, namespace), w.plane(t, namespace)}
		var ref model.PolicyRef
		for i := range 5 {
			ref = w.apply(t, namespace, strings.ReplaceAll(cart, "8080", fmt.Sprint(8080+i)))
		}
		for _, p := range planes {
			p.stands(t, ref)
		}
		for _, p := range planes {
			quiet(t, p)
		}
	})
}

func decided(all []networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
	var out []*networkingv1.NetworkPolicy
	for i := range all {
		out = append(out, decides(&all[i]))
	}
	return out
}

// outages: an API server that is stopped or does not answer changes nothing that stands, and what changed meanwhile is written soon after.
func (w *world) outages(t *testing.T) {
	var drained func()
	for name, outage := range map[string]struct{ begin, end func() }{
		"no answer":    {w.Pause, w.Resume},
		"stopped":      {w.Stop, w.Restart},
		"etcd away":    {w.KillEtcd, w.RestartEtcd},
		"etcd is full": {func() { drained = w.Full(t) }, func() { drained() }},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.plane(t, w.Namespace(t, "outages", nil))
			ref := w.apply(t, p.namespace, cart)
			p.stands(t, ref)
			d, _ := p.desired()
			d.Companions = slices.Clone(d.Companions)
			edited := d.Companions[0].NetworkPolicy.DeepCopy()
			edited.Spec.Ingress = nil
			d.Companions[0].NetworkPolicy = edited
			before := p.requests.Load()
			outage.begin()
			p.frozen.Store(&d)
			p.Poke()
			apitest.Eventually(t, within, "a write is tried", func() error {
				if p.requests.Load() == before {
					return errors.New("not yet")
				}
				return nil
			})
			outage.end()
			p.stands(t, ref)
			apitest.Eventually(t, within, "the change stands", func() error {
				for _, np := range p.live(t) {
					if np.Name == edited.Name && len(np.Spec.Ingress) == 0 {
						return nil
					}
				}
				return errors.New("not yet")
			})
		})
	}
}
