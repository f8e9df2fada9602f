// Package companion makes the companion NetworkPolicies stand in a cluster, and keeps them as they should be. Input: the companions that are desired, the
// NetworkPolicies that stand (a watch's cache), and a client. Output: writes to the API server, and for each policy whether its companions stand. One entry point:
// Controller.Run, in the leader alone.
//
// What it promises:
//   - Each object is replaced by one write. Its name tells its pods and directions (see netpol), so a write never releases a pod. An object that is no longer desired is
//     deleted only when everything desired that may select the same pods stands. So no order in which writes arrive or fail opens what neither the old companions nor
//     the new ones allow. What both allow can be shut until the last write of a change has arrived.
//   - A write to an object that stands carries its UID and version, so whoever acts on an older view gets a conflict. A new object is applied without force.
//     Two leaders with the same input write the same bytes. Where an object tells of another generation than the view does, the API server is asked before it is touched.
//   - What one generation of a policy made, and the next would make the same, is not written again.
//   - What is not ours is never touched. Ours is what its managed fields say that we applied, what has our label and is owned by the very policy, and what this process
//     knew as ours under the same UID. The names of managers outlive an edit, since an edit that leaves any of our fields leaves our entry; so an object whose labels or
//     owner were taken away is put right, and one that somebody made under a companion's name is left alone and reported.
package companion

import (
	"context"
	"log/slog"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	networkingclient "k8s.io/client-go/kubernetes/typed/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// FieldManager is the name that we apply under.
const FieldManager = "pilot-lite"

// Standing is what stands now. What it returns is not changed by anybody; an object that did not change is the same pointer.
type Standing interface {
	NetworkPolicies() []*networkingv1.NetworkPolicy
}

// Desired is what should stand, all made from one view of the cluster. It is not changed afterwards: another view has other lists.
type Desired struct {
	Companions []netpol.Companion
	Policies   []*model.Policy // every policy of that view, those without companions too
}

// Config is what a Controller needs.
type Config struct {
	Client   networkingclient.NetworkPoliciesGetter
	Standing Standing
	// Desired is what should stand; complete is false while the view that it was made from is not complete, and then nothing is written.
	Desired func() (d Desired, complete bool)
	// Live asks the API server which generation of a policy there is now. It is asked only before something is undone that a later view may have made.
	Live func(ctx context.Context, namespace, name string) (ref model.PolicyRef, found bool, err error)
	// Leads is asked before each write; nil where there is nobody else.
	Leads   func() bool
	Logger  *slog.Logger
	Metrics *Metrics // may be nil
}

// Controller compares and writes. Run alone uses what is not guarded by mu.
type Controller struct {
	Config
	poke, changed chan struct{}

	records map[types.NamespacedName]*record
	// What was desired and what stood last, in their order: most of it stands where it stood, and is found without its name.
	wanted, stood []*record
	round         uint64 // counts the comparisons
	rest          rest
	queue         []*task
	busy          map[string]bool // the policies that a worker is at, as "namespace/name"
	done          chan *task

	mu     sync.Mutex
	states map[string]State // by the policy's UID
	moved  map[string]bool  // those that nobody took
	view   []*model.Policy  // that they are of
	worse  map[string]State // those of which something bad is known
}

// rest is a comparison that found all as it should be: until its time, and while the very same is desired and stands, nothing is compared again.
type rest struct {
	until      time.Time
	companions []netpol.Companion
	standing   []*networkingv1.NetworkPolicy
}

const (
	// checkInterval is how often everything is compared although nothing was said to have changed.
	checkInterval = 5 * time.Second
	// minInterval lies between two comparisons: what arrives meanwhile is one.
	minInterval = 20 * time.Millisecond
	// workers bounds how many policies are written at a time.
	workers = 8
	// writeTimeout bounds one request, retries of the client included.
	writeTimeout = 10 * time.Second
)

// New returns a controller; Run starts it.
func New(c Config) *Controller {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Leads == nil {
		c.Leads = func() bool { return true }
	}
	return &Controller{Config: c, poke: make(chan struct{}, 1), changed: make(chan struct{}, 1), states: map[string]State{}, moved: map[string]bool{}}
}

// Poke says that what is desired or what stands has changed. It never blocks.
func (c *Controller) Poke() { signal(c.poke) }

// Changed receives a value after any State changed; several changes may be one value.
func (c *Controller) Changed() <-chan struct{} { return c.changed }

func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Run compares and writes until ctx is done, and returns when the last write has ended.
func (c *Controller) Run(ctx context.Context) {
	c.records, c.wanted, c.stood = map[types.NamespacedName]*record{}, nil, nil
	c.queue, c.busy, c.done, c.rest = nil, map[string]bool{}, make(chan *task), rest{}
	c.publish(nil, nil)
	next := time.NewTimer(0)
	defer next.Stop()
	var last time.Time
	soon := func() { next.Reset(max(0, minInterval-time.Since(last))) }
	for {
		select {
		case <-ctx.Done():
			for len(c.busy) > 0 {
				delete(c.busy, (<-c.done).policy)
			}
			return
		case t := <-c.done:
			delete(c.busy, t.policy)
			c.settle(t, time.Now())
			c.dispatch(ctx)
			soon()
		case <-c.poke:
			soon()
		case <-next.C:
			last = time.Now()
			next.Reset(c.compare(last))
			c.dispatch(ctx)
		}
	}
}

// dispatch starts workers on what is queued. One policy's writes follow each other, isolation first; no policy waits for another.
func (c *Controller) dispatch(ctx context.Context) {
	for len(c.queue) > 0 && len(c.busy) < workers {
		t := c.queue[0]
		c.queue = c.queue[1:]
		if c.busy[t.policy] {
			continue // compared again when that one is done
		}
		c.busy[t.policy] = true
		go func() {
			for _, a := range t.actions {
				c.perform(ctx, a)
			}
			c.done <- t
		}()
	}
}
