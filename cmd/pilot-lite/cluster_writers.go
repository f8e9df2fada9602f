package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/pilot-lite/pilot-lite/pkg/identity"
	"github.com/pilot-lite/pilot-lite/pkg/kube/companion"
	"github.com/pilot-lite/pilot-lite/pkg/kube/leader"
	"github.com/pilot-lite/pilot-lite/pkg/kube/policystatus"
)

// writers write to the cluster, in the one replica that leads.
type writers struct {
	leader     *leader.Leader
	companions *companion.Controller
	webhooks   *identity.Webhooks
	statuses   *policystatus.Writer
	judge      func(ctx context.Context, w *writers)
}

func (s *clusterServer) newWriters() (*writers, error) {
	pod := os.Getenv("POD_NAME")
	if pod == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("set POD_NAME: %w", err)
		}
		pod = name
	}
	w := &writers{leader: leader.New(leader.Config{
		Leases: s.clients.Client.CoordinationV1(), Namespace: s.options.cluster.namespace, Name: controlPlaneName, Pod: pod,
		Logger: s.logger.With("component", "leader"), Metrics: leader.NewMetrics(s.registry),
	})}
	w.companions = companion.New(companion.Config{
		Client: s.clients.Client.NetworkingV1(), Standing: s.source, Desired: s.desired, Live: s.clients.Policies.Ref, Leads: w.leader.Leads,
		Logger: s.logger.With("component", "companions"), Metrics: companion.NewMetrics(s.registry),
	})
	w.webhooks = identity.NewWebhooks(identity.WebhookConfig{
		Client: s.clients.Client.AdmissionregistrationV1(), Name: controlPlaneName, Bundle: s.identity.Bundle, Leads: w.leader.Leads,
		Logger: s.logger.With("component", "identity"), Metrics: s.trust,
	})
	w.statuses, w.judge = s.newStatusWriter(w.leader.Leads), s.judge
	return w, nil
}

// run stands for election until ctx is done.
func (w *writers) run(ctx context.Context) error {
	return w.leader.Run(ctx, func(ctx context.Context) {
		var writing sync.WaitGroup
		writing.Go(func() { w.companions.Run(ctx) })
		writing.Go(func() { w.statuses.Run(ctx) })
		writing.Go(func() { w.judge(ctx, w) })
		writing.Go(func() { _ = w.webhooks.Run(ctx) }) // it returns nil
		writing.Wait()
	})
}

// desired are the companions that should stand, from the last good rebuild.
func (s *clusterServer) desired() (companion.Desired, bool) {
	built := s.loop.Built()
	if built.Output == nil || s.loop.Degraded() || len(s.source.Waiting()) > 0 {
		return companion.Desired{}, false
	}
	return companion.Desired{Companions: built.Output.Companions, Policies: built.Index.Snapshot.Policies}, true
}

// tell pokes the writers whenever what they compare may have changed.
func (s *clusterServer) tell(ctx context.Context, w *writers) {
	var telling sync.WaitGroup
	telling.Go(func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			n = s.loop.WaitFor(ctx, n)
			w.companions.Poke()
		}
	})
	telling.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.source.NetworkPoliciesChanged():
				w.companions.Poke()
			case <-s.source.PoliciesChanged():
				w.statuses.Touched(s.source.TouchedPolicies())
			}
		}
	})
	telling.Wait()
}
