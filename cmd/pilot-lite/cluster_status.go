package main

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/kube/companion"
	"github.com/pilot-lite/pilot-lite/pkg/kube/policystatus"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/report"
	"github.com/pilot-lite/pilot-lite/pkg/status"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

const (
	replicasService = controlPlaneName + "-replicas"
	// statusInterval lies between two looks at what is enforced; what happens meanwhile is one.
	statusInterval = 20 * time.Millisecond
)

// reports is how the other replicas are asked what their proxies run.
func (s *clusterServer) reports() report.Config {
	return report.Config{Own: s.cache, Replicas: s.replicas, TLS: s.identity.ClientTLS(), Logger: s.logger.With("component", "report")}
}

// replicas are the addresses of the others.
func (s *clusterServer) replicas() []string {
	_, port, err := net.SplitHostPort(s.options.xdsAddress)
	if err != nil {
		return nil // a UNIX socket: there is one replica
	}
	var out []string
	for _, e := range s.source.Endpoints(s.options.cluster.namespace, replicasService) {
		if e.Pod != os.Getenv("POD_NAME") {
			out = append(out, net.JoinHostPort(e.Address.String(), port))
		}
	}
	return out
}

// everyProxy is what the proxies of all replicas run, and whose pods should be created again.
func (s *clusterServer) everyProxy(ctx context.Context) []xds.ProxyStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout/2)
	defer cancel()
	proxies, now := report.Sum(ctx, s.reports()), time.Now()
	given := kube.Images{Capture: s.options.cluster.image, Proxy: s.options.cluster.sidecarImage}
	for i := range proxies {
		p := &proxies[i]
		namespace, name, _ := strings.Cut(p.Node, "/")
		if pod, runs, found := s.source.Sidecar(namespace, name); found && pod.Proxy.Injected && !pod.Ended {
			p.Restart = restartReason(runs, given, now.Sub(pod.Created))
		}
	}
	return proxies
}

// newStatusWriter writes the statuses of policies.
func (s *clusterServer) newStatusWriter(leads func() bool) *policystatus.Writer {
	return policystatus.New(policystatus.Config{
		Client: s.clients.Policies, Leads: leads, Logger: s.logger.With("component", "status"), Metrics: policystatus.NewMetrics(s.registry),
		Stored: func(ref model.PolicyRef) (v1alpha1.L7PolicyStatus, bool) {
			p, found := s.source.Policy(ref.Namespace, ref.Name)
			return p.Status, found && p.UID == ref.UID
		},
	})
}

// judged is what was looked at.
type judged struct {
	controlplane.Built
	report *agree.Report
}

// judge tells the writer what is enforced, from what proxies run and how companions stand, until ctx is done.
func (s *clusterServer) judge(ctx context.Context, w *writers) {
	collector, layers := report.New(s.reports()), &agreement{changed: make(chan struct{}, 1)}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { collector.Run(ctx) })
	beside.Go(func() { s.compareLayers(ctx, layers) })
	rebuilt := s.rebuilds(ctx)
	tracker := status.NewTracker(time.Now())
	var last judged
	var policies []status.Policy // scratch
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-rebuilt:
		case <-collector.Changed():
			layers.heard()
		case <-w.companions.Changed():
		case <-layers.changed:
		case <-next.C:
		}
		now := time.Now()
		built, compared := s.loop.Built(), layers.report.Load()
		if built != last.Built {
			policies = appendPolicies(policies[:0], built)
			tracker.SetPolicies(built.Index, policies, s.saysEnforced)
		}
		if compared != last.report {
			tracker.SetAgreement(func(p model.PolicyRef) status.Agreement { return agreementOf(compared, p) })
		}
		last = judged{built, compared}
		for uid, state := range w.companions.Take() {
			tracker.SetCompanions(uid, companionsOf(state))
		}
		tracker.SetProxies(collector.Take(), now)
		wait := time.Second
		if last.Output != nil && collector.Complete(now) && len(s.source.Waiting()) == 0 {
			results, at := tracker.Evaluate(now)
			w.statuses.Set(results)
			if !at.IsZero() {
				wait = min(wait, at.Sub(now))
			}
		}
		next.Reset(max(wait, statusInterval))
		select {
		case <-ctx.Done():
			return
		case <-time.After(statusInterval):
		}
	}
}

// rebuilds receives a value after a rebuild; several may be one value.
func (s *clusterServer) rebuilds(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			n = s.loop.WaitFor(ctx, n)
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

// appendPolicies appends a rebuild's policies to others.
func appendPolicies(to []status.Policy, built controlplane.Built) []status.Policy {
	problems := map[model.ObjectRef][]model.Diagnostic{}
	for i := range built.Output.Diagnostics {
		if d := &built.Output.Diagnostics[i]; d.Severity == model.SeverityError {
			of := model.ObjectRef{Kind: d.Object.Kind, Namespace: d.Object.Namespace, Name: d.Object.Name}
			problems[of] = append(problems[of], *d)
		}
	}
	for _, p := range built.Output.Selections {
		next := status.Policy{Ref: p.PolicyRef, DryRun: p.DryRun, Ingress: p.IsolatesIngress, Selected: p.Workloads}
		if len(problems) > 0 {
			next.Problems = problems[model.ObjectRef{Kind: v1alpha1.Kind, Namespace: p.Namespace, Name: p.Name}]
		}
		to = append(to, next)
	}
	return to
}

// saysEnforced says whether a policy's status, as it stands, is True for its generation.
func (s *clusterServer) saysEnforced(ref model.PolicyRef) bool {
	stored, _ := s.source.Policy(ref.Namespace, ref.Name)
	for i := range stored.Status.Conditions {
		if c := &stored.Status.Conditions[i]; c.Type == v1alpha1.ConditionEnforced {
			return c.Status == metav1.ConditionTrue && c.ObservedGeneration == ref.Generation
		}
	}
	return false
}

func companionsOf(s companion.State) status.Companions {
	out := status.Companions{Stand: s.Phase == companion.Stands, Generation: s.Generation}
	switch s.Phase {
	case companion.Stands, companion.Unknown:
	case companion.Pending:
		out.Message = "companion NetworkPolicy " + s.Object + " is being written"
	case companion.Foreign:
		out.Message = "NetworkPolicy " + s.Object + " has a companion's name and is not pilot-lite's: rename or delete it"
	case companion.Failed:
		out.Message = "companion NetworkPolicy " + s.Object + " cannot be written: " + s.Message
	}
	return out
}
