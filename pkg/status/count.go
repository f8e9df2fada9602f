package status

import (
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// counts is how the pods of a policy are.
type counts struct {
	expected, enforced, rejected, pending int32
	// holding says that some that are counted as pending run this generation all the same, and have not been behind, or lost, for longer than their grace.
	holding int32

	refused, unprotected, disconnected, waiting names
	firstRefusal                                string
	next                                        time.Time
}

// names are the first of many.
type names struct {
	first []string
	count int32
}

const shownNames = 3

func (n *names) add(name string) {
	if n.count++; n.count <= shownNames {
		n.first = append(n.first, name)
	}
}

// count looks at every pod that the policy selects.
func (t *Tracker) count(p *tracked, now time.Time) counts {
	var c counts
	for _, w := range p.Selected {
		for _, pod := range w.Pods {
			if pod.Expected {
				c.expected++
				t.countPod(p, pod, now, &c)
			}
		}
	}
	return c
}

func (t *Tracker) countPod(p *tracked, pod *model.Pod, now time.Time, c *counts) {
	if !p.Ingress {
		c.enforced++ // the companions are all there is
		return
	}
	if !pod.Proxy.Injected {
		c.pending++
		c.unprotected.add(pod.Name)
		return
	}
	x := t.proxies[podName{pod.Namespace, pod.Name}]
	if x.Proxy != nil && x.Problem != "" && !x.Connected {
		c.pending++
		c.disconnected.add(pod.Name + " (" + x.Problem + ")")
		return
	}
	if x.Proxy == nil || x.UID != "" && x.UID != pod.UID {
		t.countUnseen(p, pod, now, c)
		return
	}
	is := x.of(p.Ref.UID)
	runs := is.Running == p.Ref.Generation
	switch {
	case !x.Connected && x.Since.IsZero():
		t.countUnseen(p, pod, now, c)
	case !x.Connected:
		c.pending++
		if runs && c.within(now, x.Since.Add(LostGrace)) {
			c.holding++
			return
		}
		c.disconnected.add(pod.Name)
	case runs && is.Current:
		c.enforced++
	case runs && c.within(now, x.behindSince.Add(BehindGrace)):
		c.pending++
		c.holding++
	case is.Refused != "":
		c.rejected++
		c.refused.add(pod.Name)
		if c.firstRefusal == "" {
			c.firstRefusal = is.Refused
		}
	default:
		c.pending++
		c.waiting.add(pod.Name)
	}
}

// countUnseen is for a proxy that nobody has seen. One that was counted as enforcing before this process came has its time to show itself, and a pod that was just made too.
func (t *Tracker) countUnseen(p *tracked, pod *model.Pod, now time.Time, c *counts) {
	c.pending++
	switch {
	case p.enforcedBefore && pod.Created.Before(t.started) && c.within(now, t.started.Add(LostGrace)):
		c.holding++
	case c.within(now, latest(pod.Created, t.started).Add(LostGrace)):
		c.waiting.add(pod.Name)
	default:
		c.disconnected.add(pod.Name)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// within says whether a time has not come yet, and notes that it will.
func (c *counts) within(now, until time.Time) bool {
	if !now.Before(until) {
		return false
	}
	if c.next.IsZero() || until.Before(c.next) {
		c.next = until
	}
	return true
}
