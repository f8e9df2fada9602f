package xds

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// patrol ends the streams of proxies that do not read and answer, and those whose credentials do not stand any more. It looks at all of them now and then: a timer
// for each would cost more than the rest of an idle stream.
type patrol struct {
	cache         *Cache
	sendTimeout   time.Duration
	claimInterval time.Duration
}

// lateTime is how long a proxy may take for an answer until its status says that one is awaited. An Envoy takes milliseconds.
const lateTime = 500 * time.Millisecond

// walk goes round until done is closed.
func (p patrol) walk(done <-chan struct{}) {
	const looks = 10 // within the time that a proxy has
	stalled := time.NewTicker(p.sendTimeout / looks)
	defer stalled.Stop()
	claims := time.NewTicker(p.claimInterval)
	defer claims.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-stalled.C:
			p.lookAtFlights(now)
		case now := <-claims.C:
			p.endUnproved(now)
		}
	}
}

// lookAtFlights tells of proxies that take long to answer, and ends the streams of those that have not in time. That a response was written proves nothing: it may
// have filled a buffer.
func (p patrol) lookAtFlights(now time.Time) {
	p.cache.mu.Lock()
	defer p.cache.mu.Unlock()
	for s := range p.cache.streams {
		for _, sub := range s.subs {
			if sub == nil || sub.flying == nil {
				continue
			}
			f := sub.flying
			if !f.late && now.Sub(f.left) > lateTime {
				f.late = true
				p.cache.touch(s.node)
			}
			if now.Sub(f.left) > p.sendTimeout {
				s.link.end(status.Errorf(codes.DeadlineExceeded, "the proxy did not read and answer for %s", p.sendTimeout))
			}
		}
	}
}

// endUnproved asks the claims without the cache's lock: who answers for them may hold locks of its own.
func (p patrol) endUnproved(now time.Time) {
	p.cache.mu.Lock()
	proven := make([]*stream, 0, len(p.cache.streams))
	for s := range p.cache.streams {
		proven = append(proven, s)
	}
	p.cache.mu.Unlock()
	for _, s := range proven {
		if err := s.claim.check(now); err != nil {
			s.link.end(err)
		}
	}
}
