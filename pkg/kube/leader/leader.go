// Package leader elects the one replica that writes to the cluster, by a Lease. Input: a client for Leases, and what only the leader does. Output: that it runs in one
// replica at a time, and a word on whether the lease still holds, which writers ask for before each write. One entry point: Leader.Run.
package leader

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// ErrLost is what Run returns when another replica may lead. The process should end: what it was about to write may be old.
var ErrLost = errors.New("the lease was lost: another replica may lead, so this one ends; it is started again and waits for its turn")

// Config is what a Leader needs.
type Config struct {
	Leases          coordinationclient.LeasesGetter
	Namespace, Name string // the Lease's
	Pod             string // this replica's; a random part is added, since a pod's container can be started again
	Logger          *slog.Logger
	Metrics         *Metrics // may be nil
	Times           Times    // DefaultTimes where zero
}

// Times are how long the lease holds without being renewed, how long the leader tries to renew it, and how often anybody tries.
type Times struct{ Lease, Renew, Retry time.Duration }

// DefaultTimes are those of Kubernetes' own controllers.
func DefaultTimes() Times {
	return Times{Lease: 15 * time.Second, Renew: 10 * time.Second, Retry: 2 * time.Second}
}

// Leader is a replica that may lead.
type Leader struct {
	Config
	started time.Time
	// expires is when others may take the lease, in nanoseconds after started: a monotonic time, which goes on while the process is stopped.
	expires atomic.Int64
}

const (
	// checkInterval is how often the lease is looked at. Writers look at it themselves.
	checkInterval = 100 * time.Millisecond
	// stopTime is how long writers have to end once the lease is lost.
	stopTime = 3 * time.Second
)

// New returns a leader to be; Run makes it stand for election.
func New(c Config) *Leader {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Times == (Times{}) {
		c.Times = DefaultTimes()
	}
	return &Leader{Config: c, started: time.Now()}
}

// Leads says whether this replica leads, by the clock: nobody else can have taken the lease yet.
func (l *Leader) Leads() bool { return int64(time.Since(l.started)) < l.expires.Load() }

// Run stands for election until ctx is done. While it leads, lead runs; lead returns when its context is done. The lease is given up once lead has returned. Run returns
// ErrLost when the lease was lost.
func (l *Leader) Run(ctx context.Context, lead func(ctx context.Context)) error {
	electing, resign := context.WithCancel(context.WithoutCancel(ctx))
	defer resign()
	k := &lock{leader: l, Interface: &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name}, Client: l.Leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: l.Pod + "_" + rand.Text()},
	}}
	elected, ended := make(chan struct{}), make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: k, LeaseDuration: l.Times.Lease, RenewDeadline: l.Times.Renew, RetryPeriod: l.Times.Retry, ReleaseOnCancel: true, Name: l.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(elected) }, OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				l.Logger.Info("a replica leads", "identity", identity, "self", identity == k.Identity())
			},
		},
	})
	if err != nil {
		return fmt.Errorf("elect a leader: %w", err)
	}
	go func() {
		defer close(ended)
		elector.Run(electing)
	}()
	defer func() {
		resign()
		<-ended
		l.expires.Store(0)
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-elected:
	}
	l.Metrics.leads(1)
	defer l.Metrics.leads(0)
	if l.lead(ctx, lead, ended) {
		return nil
	}
	k.lost.Store(true)
	l.Metrics.lost()
	return ErrLost
}

// lead runs what the leader does, and says whether it ended because ctx was done, and not because the lease was lost.
func (l *Leader) lead(ctx context.Context, lead func(ctx context.Context), ended <-chan struct{}) bool {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		lead(ctx)
	}()
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			<-done
			return true
		case <-ended:
		case <-tick.C:
			if l.Leads() {
				continue
			}
		}
		l.Logger.Error("the lease was lost: nothing more is written")
		stop()
		select {
		case <-done:
		case <-time.After(stopTime):
			l.Logger.Error("a writer does not end; every write asks whether the lease holds")
		}
		return false
	}
}

// lock is the Lease. It notes when each renewal was begun: whoever waits for the lease to run out has seen it later than that.
type lock struct {
	resourcelock.Interface
	leader *Leader
	lost   atomic.Bool
}

var errTaken = errors.New("the lease is not ours any more")

// bound leaves time for another try when one gets no answer.
func (k *lock) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	const tries = 2
	return context.WithTimeout(ctx, k.leader.Times.Renew/tries)
}

// Get reads the Lease. Once it was lost there is nothing to give up, and nothing to ask for.
func (k *lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if k.lost.Load() {
		return nil, nil, errTaken
	}
	ctx, cancel := k.bound(ctx)
	defer cancel()
	return k.Interface.Get(ctx)
}

// Create makes the Lease.
func (k *lock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return k.write(ctx, r, k.Interface.Create)
}

// Update renews, takes or gives up the Lease. It is given up only while it holds: the elector's own record may be old, and it would be another's that is given up.
func (k *lock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if r.HolderIdentity == "" && !k.leader.Leads() {
		return errTaken
	}
	return k.write(ctx, r, k.Interface.Update)
}

func (k *lock) write(ctx context.Context, r resourcelock.LeaderElectionRecord, write func(context.Context, resourcelock.LeaderElectionRecord) error) error {
	ctx, cancel := k.bound(ctx)
	defer cancel()
	begun := time.Since(k.leader.started)
	if err := write(ctx, r); err != nil {
		return err
	}
	if r.HolderIdentity == k.Identity() {
		k.leader.expires.Store(int64(begun + k.leader.Times.Lease))
	} else {
		k.leader.expires.Store(0)
	}
	return nil
}

// Metrics says who leads.
type Metrics struct {
	leader prometheus.Gauge
	losses prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		leader: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_lite_leader", Help: "1 in the replica that writes to the cluster."}),
		losses: prometheus.NewCounter(prometheus.CounterOpts{Name: "pilot_lite_leader_lost_total", Help: "Leases that were lost, not given up."}),
	}
	r.MustRegister(m.leader, m.losses)
	return m
}

func (m *Metrics) leads(n float64) {
	if m != nil {
		m.leader.Set(n)
	}
}

func (m *Metrics) lost() {
	if m != nil {
		m.losses.Inc()
	}
}
