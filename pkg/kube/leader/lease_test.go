package leader_test

import (
	"context"
	"sync"
	"sync/atomic"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// oneLease is an API server that knows one Lease, and that may not answer. A whole client would start goroutines that no test clock can wait for.
type oneLease struct {
	coordinationclient.LeaseInterface
	stuck atomic.Bool

	mu    sync.Mutex
	lease *coordinationv1.Lease
}

func (o *oneLease) Leases(string) coordinationclient.LeaseInterface { return o }

func (o *oneLease) wait(ctx context.Context) error {
	if !o.stuck.Load() {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (o *oneLease) Get(ctx context.Context, _ string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	if err := o.wait(ctx); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lease == nil {
		return nil, apierrors.NewNotFound(coordinationv1.Resource("leases"), "pilot-lite")
	}
	return o.lease.DeepCopy(), nil
}

func (o *oneLease) Create(ctx context.Context, l *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	return o.put(ctx, l)
}

func (o *oneLease) Update(ctx context.Context, l *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	return o.put(ctx, l)
}

func (o *oneLease) put(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	if err := o.wait(ctx); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lease = l.DeepCopy()
	return l, nil
}
