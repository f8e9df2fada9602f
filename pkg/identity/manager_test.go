package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func current(t testing.TB, m *Manager) *x509.Certificate {
	t.Helper()
	c, err := m.certificate()
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

// Of replicas that start at once exactly one makes the authority, and all use it.
func TestReplicasAgreeOnOneAuthority(t *testing.T) {
	t.Parallel()
	for range 20 {
		var s secrets
		var all sync.WaitGroup
		replicas := make([]*Manager, 5)
		for i := range replicas {
			replicas[i] = New(config(&s))
			all.Go(func() {
				if err := replicas[i].Start(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if s.writes != 1 {
			t.Fatalf("the Secret was written %d times", s.writes)
		}
		for _, m := range replicas {
			if !bytes.Equal(m.Bundle(), replicas[0].Bundle()) {
				t.Fatal("two authorities")
			}
			if err := trusts(replicas[0].Bundle(), current(t, m), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Two replicas live through the rotation of their authority together: each change is written once, and each trusts the other at every moment.
func TestReplicasRotateTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s secrets
		c := config(&s)
		c.Lifetimes = shortLifetimes()
		replicas := []*Manager{started(t, c), started(t, c)}
		first := current(t, replicas[0])
		for _, m := range replicas {
			running(t, m)
		}
		for range 20 * 60 {
			time.Sleep(time.Minute)
			synctest.Wait()
			for _, a := range replicas {
				for _, b := range replicas {
					if err := trusts(a.Bundle(), current(t, b), time.Now()); err != nil {
						t.Fatalf("%s: %v", time.Now(), err)
					}
				}
			}
		}
		// Made at 0 h; a successor made, signing, and the one before dropped at 6, 8 and 10 h, then at 12, 14 and 16 h; and one more made at 18 h.
		if s.writes != 1+3+3+1 {
			t.Errorf("the Secret was written %d times in twenty hours", s.writes)
		}
		if err := trusts(replicas[0].Bundle(), first, first.NotBefore.Add(time.Minute)); err == nil {
			t.Error("the first authority is still trusted")
		}
	})
}

// Without an API server the certificate is renewed all the same; with it back, what was missed is made up.
func TestRenewalWithoutAnAPIServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s secrets
		registry := prometheus.NewRegistry()
		c := config(&s)
		c.Lifetimes, c.Metrics = shortLifetimes(), NewMetrics(registry)
		m := started(t, c)
		running(t, m)
		s.fail(errors.New("connection refused"))
		for range 7 * 60 {
			time.Sleep(time.Minute)
			synctest.Wait()
			if err := trusts(m.Bundle(), current(t, m), time.Now()); err != nil {
				t.Fatalf("%s: %v", time.Now(), err)
			}
		}
		if value(t, registry, "pilot_lite_authority_unreadable") != 1 {
			t.Error("no metric tells that the Secret cannot be read")
		}
		if n := strings.Count(string(m.Bundle()), "BEGIN"); n != 1 {
			t.Errorf("%d authorities, though none could be written", n)
		}
		s.fail(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(string(m.Bundle()), "BEGIN"); n != 2 {
			t.Errorf("%d authorities, want a successor", n)
		}
		if value(t, registry, "pilot_lite_authority_unreadable") != 0 {
			t.Error("the metric stays")
		}
		if got, want := value(t, registry, "pilot_lite_certificate_expiry_timestamp_seconds"), float64(current(t, m).NotAfter.Unix()); got != want {
			t.Errorf("the certificate's end in the metrics is %v, want %v", got, want)
		}
	})
}

// A Secret that was deleted while the control plane runs is put back: a new authority would cost every sidecar its trust.
func TestADeletedSecretIsPutBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s secrets
		replicas := []*Manager{started(t, config(&s)), started(t, config(&s))}
		for _, m := range replicas {
			running(t, m)
		}
		before, bundle := s.data(), replicas[0].Bundle()
		s.edit(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(before, s.data()); diff != "" {
			t.Error(diff)
		}
		for _, m := range replicas {
			if !bytes.Equal(m.Bundle(), bundle) {
				t.Error("another authority")
			}
		}
	})
}

// A Secret that holds something else is never written over: the control plane does not start with it, and one that runs goes on with what it has.
func TestABrokenSecretIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s secrets
		var log bytes.Buffer
		c := config(&s)
		c.Lifetimes, c.Logger = shortLifetimes(), slog.New(slog.NewTextHandler(&log, nil))
		m := started(t, c)
		running(t, m)
		broken := map[string][]byte{"tls.crt": []byte("something"), "tls.key": []byte("else")}
		s.edit(broken)
		for range 7 * 60 {
			time.Sleep(time.Minute)
			synctest.Wait()
			if err := trusts(m.Bundle(), current(t, m), time.Now()); err != nil {
				t.Fatalf("%s: %v", time.Now(), err)
			}
		}
		if diff := cmp.Diff(broken, s.data()); diff != "" {
			t.Errorf("the Secret was written over: %s", diff)
		}
		if n := strings.Count(log.String(), "could not be read again"); n != 1 {
			t.Errorf("it was said %d times:\n%s", n, log.String())
		}
		err := New(c).Start(t.Context())
		for _, part := range []string{"Secret pilot-lite-system/pilot-lite-ca", "tls.crt", "restore it from a backup", "restart every injected pod"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("a second replica starts with %v, want an error with %q", err, part)
			}
		}
	})
}

// The first replica's clock is an hour ahead: the others can serve with its authority at once. What it signs itself holds when its clock is set right.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s secrets
		ahead := time.Hour
		c := config(&s)
		c.Now = func() time.Time { return time.Now().Add(ahead) }
		first, second := started(t, c), started(t, config(&s))
		if err := trusts(first.Bundle(), current(t, second), time.Now()); err != nil {
			t.Errorf("the second replica: %v", err)
		}
		ahead = 0
		running(t, first)
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := trusts(second.Bundle(), current(t, first), time.Now()); err != nil {
			t.Errorf("the first replica, set right: %v", err)
		}
	})
}

// An authority that somebody put there, such as a backup's, is used.
func TestAnAuthorityThatIsGiven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s secrets
		m := started(t, config(&s))
		running(t, m)
		given, err := begin(t, time.Now(), DefaultLifetimes()).encode()
		if err != nil {
			t.Fatal(err)
		}
		s.edit(given)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !bytes.Equal(m.Bundle(), given[keyBundle]) {
			t.Error("the bundle is not the given one")
		}
		if err := trusts(given[keyBundle], current(t, m), time.Now()); err != nil {
			t.Error(err)
		}
	})
}

// A start waits for an API server that is away, says so once, and gives up with its context.
func TestStartWaitsForTheAPIServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s secrets
		var log bytes.Buffer
		s.fail(errors.New("connection refused"))
		c := config(&s)
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := New(c).Start(ctx); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("got %v", err)
		}
		if n := strings.Count(log.String(), "cannot be read yet"); n != 1 {
			t.Errorf("said %d times", n)
		}
		time.AfterFunc(10*time.Second, func() { s.fail(nil) })
		if err := New(c).Start(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// value is the sum of a metric's series.
func value(t testing.TB, g prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
