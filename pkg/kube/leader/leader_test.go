package leader_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/kube/leader"
)

func quick() leader.Times {
	return leader.Times{Lease: 2 * time.Second, Renew: 1200 * time.Millisecond, Retry: 200 * time.Millisecond}
}

// replica is one that stands for election.
type replica struct {
	*leader.Leader
	leading atomic.Bool
	stop    context.CancelFunc
	ended   chan error
}

func start(t *testing.T, client kubernetes.Interface, namespace, pod string, times leader.Times) *replica {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &replica{stop: cancel, ended: make(chan error, 1), Leader: leader.New(leader.Config{
		Leases: client.CoordinationV1(), Namespace: namespace, Name: "pilot-lite", Pod: pod, Times: times,
	})}
	go func() {
		r.ended <- r.Run(ctx, func(ctx context.Context) {
			r.leading.Store(true)
			<-ctx.Done()
			r.leading.Store(false)
		})
	}()
	t.Cleanup(cancel)
	return r
}

func (r *replica) leads() error {
	if !r.leading.Load() || !r.Leads() {
		return errors.New("it does not lead")
	}
	return nil
}

func TestOnAnAPIServer(t *testing.T) {
	t.Parallel()
	s := apitest.New(t)
	admin := kubernetes.NewForConfigOrDie(s.Config())

	// One leads, the other waits, and takes over at once when the first one gives up.
	t.Run("a leader that stops gives up its lease", func(t *testing.T) {
		namespace := s.Namespace(t, "election", nil)
		long := quick()
		long.Lease = time.Hour // nobody waits for it to run out
		first := start(t, admin, namespace, "pod", long)
		apitest.Eventually(t, 10*time.Second, "the first leads", first.leads)
		second := start(t, admin, namespace, "pod", long) // a restarted container: the same pod, and not the same replica
		first.stop()
		if err := <-first.ended; err != nil {
			t.Errorf("a leader that is stopped: %v", err)
		}
		if first.Leads() || first.leading.Load() {
			t.Error("it leads after it ended")
		}
		apitest.Eventually(t, 10*time.Second, "the second leads", second.leads)
	})

	t.Run("the manifests' rights are enough", func(t *testing.T) {
		manifests := filepath.Join(apitest.Root(t), "manifests")
		s.Apply(t, filepath.Join(manifests, "namespace.yaml"), filepath.Join(manifests, "rbac.yaml"))
		own := kubernetes.NewForConfigOrDie(s.User("system:serviceaccount:pilot-lite-system:pilot-lite"))
		for range 2 { // once to make the Lease, and once to take it
			r := start(t, own, "pilot-lite-system", "pod", quick())
			apitest.Eventually(t, 10*time.Second, "it leads", r.leads)
			r.stop()
			if err := <-r.ended; err != nil {
				t.Error(err)
			}
		}
	})

	// Whoever loses its lease stops, says so, and leaves the other's lease alone.
	t.Run("a leader whose lease is taken ends", func(t *testing.T) {
		namespace := s.Namespace(t, "election", nil)
		first := start(t, admin, namespace, "first", quick())
		apitest.Eventually(t, 10*time.Second, "the first leads", first.leads)
		lease, err := admin.CoordinationV1().Leases(namespace).Get(t.Context(), "pilot-lite", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		other, now, seconds := "other", metav1.NowMicro(), int32(3600)
		apitest.Eventually(t, 10*time.Second, "another takes the lease", func() error {
			if lease, err = admin.CoordinationV1().Leases(namespace).Get(t.Context(), "pilot-lite", metav1.GetOptions{}); err != nil {
				return err
			}
			lease.Spec.HolderIdentity, lease.Spec.RenewTime, lease.Spec.LeaseDurationSeconds = &other, &now, &seconds
			_, err := admin.CoordinationV1().Leases(namespace).Update(t.Context(), lease, metav1.UpdateOptions{})
			return err
		})
		if err := <-first.ended; !errors.Is(err, leader.ErrLost) {
			t.Errorf("ended with %v, want the lost lease", err)
		}
		if first.Leads() || first.leading.Load() {
			t.Error("it leads after it lost the lease")
		}
		lease, err = admin.CoordinationV1().Leases(namespace).Get(t.Context(), "pilot-lite", metav1.GetOptions{})
		if err != nil || *lease.Spec.HolderIdentity != other {
			t.Errorf("the other's lease is %v (%v)", lease.Spec.HolderIdentity, err)
		}
	})

	// An API server that does not answer: the leader ends before anybody else could take the lease.
	t.Run("a leader that cannot renew its lease ends", func(t *testing.T) {
		namespace := s.Namespace(t, "election", nil)
		first := start(t, admin, namespace, "first", quick())
		apitest.Eventually(t, 10*time.Second, "the first leads", first.leads)
		s.Pause()
		err := <-first.ended
		s.Resume()
		if !errors.Is(err, leader.ErrLost) {
			t.Errorf("ended with %v, want the lost lease", err)
		}
		second := start(t, admin, namespace, "second", quick())
		apitest.Eventually(t, 20*time.Second, "the second leads", second.leads)
	})
}

// A replica that was stopped for a while knows by its clock alone that its lease ran out, before it has talked to anybody.
func TestALeaseEndsByTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leases := &oneLease{}
		ctx, cancel := context.WithCancel(t.Context())
		l := leader.New(leader.Config{Leases: leases, Namespace: "x", Name: "pilot-lite", Pod: "a"})
		ended := make(chan error, 1)
		var writing atomic.Bool
		go func() {
			ended <- l.Run(ctx, func(ctx context.Context) {
				writing.Store(true)
				<-ctx.Done()
				writing.Store(false)
			})
		}()
		synctest.Wait()
		if !l.Leads() || !writing.Load() {
			t.Fatal("it does not lead")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !l.Leads() {
			t.Fatal("a lease that is renewed ended")
		}
		leases.stuck.Store(true) // no answer any more
		time.Sleep(leader.DefaultTimes().Lease + time.Millisecond)
		if l.Leads() {
			t.Error("it still leads when its lease has run out")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if writing.Load() {
			t.Error("its writers go on")
		}
		if err := <-ended; !errors.Is(err, leader.ErrLost) {
			t.Errorf("ended with %v, want the lost lease", err)
		}
		cancel()
	})
}
