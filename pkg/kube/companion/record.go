package companion

import (
	"math/rand/v2"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// record is what is remembered of one object from one comparison to the next.
type record struct {
	name              types.NamespacedName
	desired, standing *networkingv1.NetworkPolicy // of the last comparison; nil where there was none
	equal             bool                        // those two
	uid               types.UID                   // under which it was known as ours
	stood             bool                        // it was once as desired, so a difference is somebody's doing
	equalSince        time.Time
	orphaned          time.Time // since when it is not desired

	wanted, seen uint64                      // the comparisons in which it was last desired or an orphan, and in which something stood under its name
	found        *networkingv1.NetworkPolicy // what did then

	attempts int // since it last rested
	last     time.Time
	next     time.Time // not before
	failure  failure
	told     string // the failure, or the foreign object, that was logged
}

const (
	firstPause     = 100 * time.Millisecond
	longestPause   = 4 * time.Second  // so that a fault's end is noticed within 5 s
	longestRefused = 30 * time.Second // of what somebody has to grant or correct
	// readBack is how long a write may take to be seen in what stands.
	readBack = time.Second
	// graceTime is what the garbage collector is left for the companions of a policy that is gone.
	graceTime = 2 * time.Second
	// restTime is how long an object must be left alone until the next edit of it is undone at once again.
	restTime = 10 * time.Second
)

// knows says whether it is about these two: nothing that did not change is compared again.
func (r *record) knows(desired, standing *networkingv1.NetworkPolicy) bool {
	return desired == r.desired && standing == r.standing
}

// look compares what is desired for a policy with what stands now.
func (r *record) look(p model.PolicyRef, desired, standing *networkingv1.NetworkPolicy, now time.Time) {
	if !sameObject(r.desired, desired) { // what was tried in vain may be taken now
		r.attempts, r.next, r.failure, r.stood = 0, time.Time{}, failure{}, false
	}
	if standing != r.standing { // news: what was waited for may have come
		if pause := r.last.Add(r.pause()); pause.Before(r.next) {
			r.next = pause
		}
	}
	was := r.equal
	r.desired, r.standing = desired, standing
	r.equal = desired != nil && standing != nil && asDesired(p, desired, standing)
	r.stood = r.stood || r.equal
	switch {
	case r.equal && !was:
		r.equalSince, r.failure = now, failure{}
	case was && !r.equal && now.Sub(r.equalSince) >= restTime:
		r.attempts, r.next = 0, time.Time{}
	}
}

func sameObject(a, b *networkingv1.NetworkPolicy) bool {
	return a == b || a != nil && b != nil && alike(a, b) && alike(b, a)
}

// pause is how long to wait after the last attempt.
func (r *record) pause() time.Duration {
	if r.attempts == 0 {
		return 0
	}
	longest, first := longestPause, firstPause
	if r.failure.refused {
		longest, first = longestRefused, time.Second
	}
	const most = 16 // doublings
	pause := min(longest, first<<min(r.attempts-1, most))
	return pause/2 + rand.N(pause/2) //nolint:gosec // it spreads load, and guards nothing
}

// attempted takes over how a write went.
func (r *record) attempted(f failure, now time.Time) {
	r.attempts++
	r.last, r.failure = now, f
	r.next = now.Add(r.pause())
	if f.message == "" || f.conflict {
		r.next = now.Add(readBack) // or as soon as it is read back
	}
}
