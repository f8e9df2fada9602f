package controlplane_test

import (
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// salted counts how often each slot was marshalled to be sent.
type salted struct {
	mu    sync.Mutex
	times map[*corev3.TypedExtensionConfig]int
}

func (s *salted) salt(slot *corev3.TypedExtensionConfig, salt string) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times[slot]++
	return translate.Salt(slot, salt)
}

// A resource is marshalled once, however many proxies are told, workloads share it and edits leave it as it is.
func TestAResourceIsMarshalledOnce(t *testing.T) {
	t.Parallel()
	counted := &salted{times: map[*corev3.TypedExtensionConfig]int{}}
	r := startWith(t, counted.salt)
	pods := func(s *model.Snapshot) *model.Snapshot {
		return with(s, func(pods []*model.Pod) []*model.Pod {
			for _, name := range []string{"cart-1", "cart-2", "cart-3"} {
				p := *pods[0]
				p.Owner, p.Name, p.Addresses = "cart", name, nil
				pods = append(pods, &p)
			}
			return pods
		})
	}
	r.apply(pods(world(allow("cart", 1, "front"))))
	var told []*proxy
	for _, pod := range []string{"cart", "cart-1", "cart-2", "cart-3", "web"} {
		told = append(told, r.connect(pod))
	}
	r.apply(pods(world(allow("cart", 2, "front"))))
	for _, p := range told[:4] {
		p.expect("an edit", rbac.HTTPSlot)
	}
	counted.mu.Lock()
	defer counted.mu.Unlock()
	// Three of cart before the edit, three of web, and the one that the edit changed.
	if len(counted.times) != 7 {
		t.Errorf("%d slots were marshalled: the test is broken", len(counted.times))
	}
	for slot, times := range counted.times {
		if times != 1 {
			t.Errorf("slot %s was marshalled %d times", slot.GetName(), times)
		}
	}
}

// After an edit, resources are made of what it changed and of nothing else, and the rest of the state is the very same.
func TestAnEditMakesNoOtherResources(t *testing.T) {
	t.Parallel()
	r := run(t)
	web := allow("web", 1, "front")
	r.apply(world(allow("cart", 1, "front"), web))
	before, _ := r.sink.last()
	r.apply(world(allow("cart", 2, "front"), web))
	after, _ := r.sink.last()
	made := 0
	for key, resources := range after.Workloads {
		for i, resource := range resources {
			if resource != before.Workloads[key][i] {
				made++
				if resource.Type != xds.ExtensionConfigType || len(resource.Policies) != 1 || resource.Policies[0].Name != "cart" {
					t.Errorf("workload %s: %s was made again", key, resource.Name)
				}
			}
		}
	}
	if made == 0 {
		t.Errorf("%d resources were made for an edit of one workload's policy, want its slots", made)
	}
}
