package status

import "time"

// All is the status of every policy, whatever was looked at.
func (t *Tracker) All(now time.Time) []Result {
	out := make([]Result, 0, len(t.policies))
	for _, p := range t.policies {
		c := t.count(p, now)
		out = append(out, Result{Ref: p.Ref, Status: p.status(&c)})
	}
	return out
}
