package xds

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// turn takes one.
func turn(t *testing.T, turns turns) (end func()) {
	t.Helper()
	end, err := turns.take()
	if err != nil {
		t.Error(err)
		return func() {}
	}
	return end
}

// So many handshakes go on at once. Others wait, and the first of them is the next.
func TestHandshakesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := make(turns, 1)
		end := turn(t, turns)
		var order []int
		var waiting sync.WaitGroup
		for i := range 3 {
			waiting.Go(func() {
				next := turn(t, turns)
				order = append(order, i)
				next()
			})
			synctest.Wait()
		}
		if len(order) > 0 {
			t.Errorf("handshakes %v went on beside the first", order)
		}
		end()
		waiting.Wait()
		for i, was := range order {
			if i != was {
				t.Fatalf("they went on in the order %v", order)
			}
		}
		if len(turns) > 0 {
			t.Errorf("%d turns are not over", len(turns))
		}
	})
}

// Who is slow, or never says anything, keeps its place for a moment only, and frees it once.
func TestASlowHandshakeHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := make(turns, 1)
		end := turn(t, turns)
		began := time.Now()
		other := turn(t, turns)
		if waited := time.Since(began); waited != turnTime {
			t.Errorf("another waited for %s, want %s", waited, turnTime)
		}
		end() // the slow one, late: the place is the other's
		if len(turns) != 1 {
			t.Errorf("%d turns are taken, want one", len(turns))
		}
		other()
	})
}

// A connection whose turn does not come in the time that a sidecar waits is refused, before anything is worked out for it.
func TestNobodyWaitsForATurnForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := make(turns) // of which there is none
		began := time.Now()
		if _, err := turns.take(); err == nil {
			t.Error("a turn came, and there is none")
		}
		if waited := time.Since(began); waited != turnWait {
			t.Errorf("it waited for %s, want %s", waited, turnWait)
		}
	})
}
