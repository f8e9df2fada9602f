// Package kube reads a cluster. Input: a client for an API server. Output: snapshots of everything that decides a verdict, complete or not at all.
// Entry points: NewSource, which follows the cluster, and Load, which reads it once.
package kube

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Config is what a Source needs.
type Config struct {
	Client   kubernetes.Interface
	Policies *Policies
	// Namespace is the control plane's own, in which the mesh's settings stand.
	Namespace string
	// StaleAfter is how long a watch may show no progress before what was read from it counts as old: StaleAfter where it is zero.
	StaleAfter time.Duration
	// TellEvery is how often Load tells what it waits for: a few seconds where it is zero.
	TellEvery time.Duration
	Logger    *slog.Logger
	Metrics   *Metrics // may be nil
}

// Source follows a cluster. Nothing is known before everything was listed once; from then on what cannot be watched any more stays as it was last.
type Source struct {
	logger     *slog.Logger
	changed    chan struct{}
	troubled   chan struct{} // a list or a watch failed
	feeds      []*feed
	staleAfter time.Duration

	namespaces      *table[model.Namespace]
	services        *table[model.Service]
	slices          *table[[]convert.Endpoint]
	pods            *table[pod]
	networkPolicies *table[*networkingv1.NetworkPolicy]
	policies        *table[Policy]
	mesh            *table[meshConfig]
	accounts        *table[string] // their UIDs; no part of a snapshot

	// Those who write to the cluster are told of what came back from it.
	policyStatus, companions chan struct{}
	touched                  touched

	mu         sync.Mutex
	worldDirty bool // pods, services or namespaces
	sliceDirty bool // endpoint slices, which seldom say anything that pods do not
	world      *convert.World
	// The services that the world was made from, as rows and as values.
	serviceRows []*model.Service
	serviceList []model.Service
	// The policies of the snapshot, as rows and as they were resolved, and the Services that they were resolved with.
	policyRows   []*Policy
	policyList   []*model.Policy
	resolvedWith []model.Service
	// The NetworkPolicies as rows and as a list, and those of others among them.
	networkRows          []**networkingv1.NetworkPolicy
	networkList, foreign []*networkingv1.NetworkPolicy
	// One default for all snapshots: what did not change is the same in each.
	defaultMesh model.Mesh
	goodMesh    *model.Mesh
	problems    []model.Diagnostic
}

// NewSource returns a source; Run makes it read.
func NewSource(c Config) *Source {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.StaleAfter == 0 {
		c.StaleAfter = StaleAfter
	}
	s := &Source{
		logger: c.Logger, staleAfter: c.StaleAfter, changed: make(chan struct{}, 1), troubled: make(chan struct{}, 1), policyStatus: make(chan struct{}, 1), companions: make(chan struct{}, 1),
		defaultMesh: convert.DefaultMesh(),
	}
	world := func(dirty *bool) func() {
		return func() {
			s.mu.Lock()
			*dirty = true
			s.mu.Unlock()
			signal(s.changed)
		}
	}
	s.namespaces = newTable(&c, "namespaces", convertNamespace, same[model.Namespace], always[model.Namespace](world(&s.worldDirty)))
	s.services = newTable(&c, "services", convertService, same[model.Service], always[model.Service](world(&s.worldDirty)))
	s.pods = newTable(&c, "pods", convertPods(), same[pod], always[pod](world(&s.worldDirty)))
	s.slices = newTable(&c, "endpointslices", convertSlice, same[[]convert.Endpoint], always[[]convert.Endpoint](world(&s.sliceDirty)))
	s.mesh = newTable(&c, "configmaps", convertMesh, same[meshConfig], always[meshConfig](func() { signal(s.changed) }))
	s.networkPolicies = newTable(&c, "networkpolicies", convertNetworkPolicy, sameVersion, s.networkPolicyChanged)
	s.policies = newTable(&c, "l7policies", convertPolicies(s.Policy), same[Policy], s.policyChanged)
	s.policies.keep = keepMeaning
	s.policies.describe = func(p *Policy) string { return fmt.Sprintf("(%s, generation %d)", p.Action, p.Generation) }
	s.accounts = newTable(&c, "serviceaccounts", convertAccount, same[string], s.accountsChanged)
	s.feeds = feeds(&c, s)
	return s
}

func newTable[T any](c *Config, kind string, convert func(any) (T, bool), same func(a, b *T) bool, changed func(old, new *T)) *table[T] {
	return &table[T]{kind: kind, logger: c.Logger, metrics: c.Metrics, convert: convert, same: same, strip: strip, changed: changed}
}

func always[T any](tell func()) func(old, new *T) { return func(*T, *T) { tell() } }

// signal says that there is something new, to a reader that may not have read the last time.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func sameVersion(a, b **networkingv1.NetworkPolicy) bool {
	return (*a).UID == (*b).UID && (*a).ResourceVersion == (*b).ResourceVersion
}

// networkPolicyChanged: our own companions are output, and nobody's input.
func (s *Source) networkPolicyChanged(old, next **networkingv1.NetworkPolicy) {
	signal(s.companions)
	foreign := func(np **networkingv1.NetworkPolicy) bool { return np != nil && convert.ForeignNetworkPolicy(*np) }
	if old == nil && next == nil || foreign(old) || foreign(next) {
		signal(s.changed)
	}
}

// keepMeaning: each write of a status makes a new row, which means what the old one did.
func keepMeaning(old, next *Policy) {
	if same(old.Policy, next.Policy) {
		next.Policy = old.Policy
	}
}

// accountsChanged: no account changes a snapshot, but until they are listed there is none.
func (s *Source) accountsChanged(old, next *string) {
	if old == nil && next == nil {
		signal(s.changed)
	}
}

// policyChanged: a new status changes no verdict.
func (s *Source) policyChanged(old, next *Policy) {
	if old == nil && next == nil {
		s.touched.add(s.policies.all()...)
	}
	s.touched.add(old, next)
	signal(s.policyStatus)
	if old == nil || next == nil || old.UID != next.UID || old.Generation != next.Generation || !same(old.Policy, next.Policy) {
		signal(s.changed)
	}
}

// Run follows the cluster until ctx is done.
func (s *Source) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, f := range s.feeds {
		running.Go(func() { f.run(ctx) })
	}
	running.Wait()
	return nil
}

// Changed receives a value after the snapshot changed; several changes may be one value.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// PoliciesChanged receives a value after an L7Policy changed, or its status.
func (s *Source) PoliciesChanged() <-chan struct{} { return s.policyStatus }

// NetworkPoliciesChanged receives a value after any NetworkPolicy changed.
func (s *Source) NetworkPoliciesChanged() <-chan struct{} { return s.companions }

// TouchedPolicies are the UIDs of the L7Policies that changed since it was last asked, or whose status did. For one caller.
func (s *Source) TouchedPolicies() []string { return s.touched.take() }

// Policies are the L7Policies as they stand, with their statuses, in any order.
func (s *Source) Policies() []Policy { return s.policies.list() }

// Policy is one of them.
func (s *Source) Policy(namespace, name string) (Policy, bool) {
	return s.policies.get(namespace, name)
}

// NetworkPolicies are all that stand, in any order; they are not to be changed. It is the same list while nothing of it changed.
func (s *Source) NetworkPolicies() []*networkingv1.NetworkPolicy {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readNetworkPolicies()
	return s.networkList
}

// NetworkPolicy is one of them.
func (s *Source) NetworkPolicy(namespace, name string) (*networkingv1.NetworkPolicy, bool) {
	return s.networkPolicies.get(namespace, name)
}

// Pod is a pod as it stands.
func (s *Source) Pod(namespace, name string) (model.Pod, bool) {
	p, found := s.pods.get(namespace, name)
	return p.Pod, found
}

// Sidecar is a pod as it stands, with the images that were injected into it.
func (s *Source) Sidecar(namespace, name string) (model.Pod, Images, bool) {
	p, found := s.pods.get(namespace, name)
	if !found {
		return model.Pod{}, Images{}, false
	}
	return p.Pod, p.images.Value(), true
}

// Account is the UID of a service account as it stands: one that was deleted and made again is another.
func (s *Source) Account(namespace, name string) (uid string, found bool) {
	return s.accounts.get(namespace, name)
}

// Endpoints are the addresses of a Service's pods.
func (s *Source) Endpoints(namespace, service string) []convert.Endpoint {
	var out []convert.Endpoint
	for _, slice := range s.slices.list() {
		for _, e := range slice {
			if e.Namespace == namespace && e.Service == service {
				out = append(out, e)
			}
		}
	}
	return out
}

// NamespaceLabels are a namespace's labels.
func (s *Source) NamespaceLabels(name string) (map[string]string, bool) {
	ns, found := s.namespaces.get("", name)
	return ns.Labels, found
}

// Waiting are the kinds that were not listed yet.
func (s *Source) Waiting() []string {
	var out []string
	for _, f := range s.feeds {
		if !f.synced() {
			out = append(out, f.kind)
		}
	}
	return out
}

// Stale are the kinds of which nothing was heard for too long (Config.StaleAfter): anything may have changed since.
func (s *Source) Stale(now time.Time) []string {
	var out []string
	for _, f := range s.feeds {
		if f.quiet(now) > s.staleAfter {
			out = append(out, f.kind)
		}
	}
	return out
}

// Problems are what keeps the mesh's settings from being taken over.
func (s *Source) Problems() []model.Diagnostic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

// Snapshot is the present snapshot; false until every kind was listed once and the mesh's settings were good once.
func (s *Source) Snapshot() (*model.Snapshot, bool) {
	if len(s.Waiting()) > 0 {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readMesh()
	if s.goodMesh == nil {
		return nil, false
	}
	s.readWorld()
	s.readPolicies()
	var found []model.Diagnostic
	for _, p := range s.policyRows {
		found = append(found, p.Diagnostics...)
	}
	found = append(found, s.problems...)
	s.readNetworkPolicies()
	return s.world.Snapshot(s.policyList, s.foreign, *s.goodMesh, found), true
}

// readNetworkPolicies lists them, and those of others among them, if any changed.
func (s *Source) readNetworkPolicies() {
	rows := s.networkPolicies.all()
	if model.SameSlice(rows, s.networkRows) {
		return
	}
	s.networkRows, s.networkList, s.foreign = rows, make([]*networkingv1.NetworkPolicy, 0, len(rows)), nil
	for _, np := range rows {
		s.networkList = append(s.networkList, *np)
		if convert.ForeignNetworkPolicy(*np) {
			s.foreign = append(s.foreign, *np)
		}
	}
}

// Mesh are the settings that are in force; false until they were read once.
func (s *Source) Mesh() (model.Mesh, bool) {
	if len(s.Waiting()) > 0 {
		return model.Mesh{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readMesh()
	if s.goodMesh == nil {
		return model.Mesh{}, false
	}
	return *s.goodMesh, true
}

// readMesh takes over settings that are good. Others leave what was good last.
func (s *Source) readMesh() {
	mesh := meshConfig{mesh: s.defaultMesh}
	for _, written := range s.mesh.list() {
		mesh = written
	}
	if len(mesh.found) == 0 {
		s.goodMesh = &mesh.mesh
	}
	if slices.Equal(s.problems, mesh.found) {
		return
	}
	s.problems = mesh.found
	for _, p := range mesh.found {
		s.logger.Error("the mesh's settings are not in force as they stand; the last good ones are, if there were any", "problem", p.String())
	}
}

// readWorld joins everything but the policies, if any of it changed.
func (s *Source) readWorld() {
	// What changes from here on makes it dirty again, so it is read once more.
	worldDirty, sliceDirty := s.worldDirty, s.sliceDirty
	s.worldDirty, s.sliceDirty = false, false
	if s.world != nil && !worldDirty && (!sliceDirty || !s.world.LacksAddresses()) {
		return
	}
	services := s.services.all()
	if !slices.Equal(services, s.serviceRows) {
		s.serviceRows, s.serviceList = services, s.services.list()
	}
	parts := convert.Parts{Namespaces: s.namespaces.list(), Services: s.serviceList, Pods: make([]*model.Pod, 0, s.pods.size()+1), Endpoints: s.slices.list()}
	s.pods.each(func(p *pod) {
		parts.Pods = append(parts.Pods, &p.Pod)
		parts.Diagnostics = append(parts.Diagnostics, p.found...)
	})
	slices.SortFunc(parts.Diagnostics, func(a, b model.Diagnostic) int { return cmp.Compare(a.String(), b.String()) })
	s.world = s.world.Next(parts)
}

// readPolicies resolves the policies anew if any of them changed, or the Services whose spellings their hosts have. A status that was written makes another row, and no
// other policy.
func (s *Source) readPolicies() {
	rows := s.policies.all()
	same := s.policyList != nil && model.SameSlice(s.serviceList, s.resolvedWith) && slices.EqualFunc(rows, s.policyRows, func(a, b *Policy) bool { return a.Policy == b.Policy })
	s.policyRows = rows
	if same {
		return
	}
	list := make([]*model.Policy, 0, len(rows))
	for _, p := range rows {
		list = append(list, p.Policy)
	}
	s.policyList, s.resolvedWith = s.world.Resolve(list), s.serviceList
}
