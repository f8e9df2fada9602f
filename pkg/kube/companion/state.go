package companion

import (
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Phase says how far a policy's companions are.
type Phase string

// Phases, from the best to the worst.
const (
	// Unknown: the view knows no such policy (yet).
	Unknown Phase = ""
	// Stands: what was read back is what is desired, and nothing else is left of the policy's companions. Also where none are desired.
	Stands Phase = "Stands"
	// Pending: it is being written, or not read back yet.
	Pending Phase = "Pending"
	// Foreign: somebody else's object has a companion's name.
	Foreign Phase = "Foreign"
	// Failed: the API server does not take a write. It is tried again.
	Failed Phase = "Failed"
)

func (p Phase) rank() int {
	switch p {
	case Failed:
		return 4
	case Foreign:
		return 3
	case Pending:
		return 2
	case Stands:
		return 1
	case Unknown:
	}
	return 0
}

// State is how the companions of one policy stand.
type State struct {
	Phase      Phase
	Generation int64  // the policy's, that the companions were made from
	Object     string // the NetworkPolicy that the phase is about: the foreign one, or the one that is not taken
	Message    string // the API server's words
}

// Take are the states that changed since it was last asked, by the policy's UID. For one caller.
func (c *Controller) Take() map[string]State {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.moved) == 0 {
		return nil
	}
	out := make(map[string]State, len(c.moved))
	for uid := range c.moved {
		out[uid] = c.states[uid]
	}
	clear(c.moved)
	return out
}

// publish takes over the states of a view's policies: worse are those of which something bad is known.
func (c *Controller) publish(view []*model.Policy, worse map[string]State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(view) == 0 || !model.SameSlice(view, c.view) {
		c.renew(view, worse)
	} else { // of the same view, only what is bad or was can be news
		for _, some := range []map[string]State{c.worse, worse} {
			for uid := range some {
				if is, known := c.states[uid]; known {
					c.become(uid, is.Generation, worse)
				}
			}
		}
	}
	c.view, c.worse = view, worse
}

// renew takes over another view.
func (c *Controller) renew(view []*model.Policy, worse map[string]State) {
	same := len(worse) == 0 && len(c.worse) == 0 && len(c.view) == len(view)
	for i := range view {
		if !same || c.view[i] != view[i] {
			c.become(view[i].UID, view[i].Generation, worse)
		}
	}
	if len(c.states) == len(view) {
		return
	}
	known := make(map[string]bool, len(view))
	for i := range view {
		known[view[i].UID] = true
	}
	for uid := range c.states {
		if !known[uid] {
			delete(c.states, uid)
			c.say(uid)
		}
	}
}

// become notes a policy's state.
func (c *Controller) become(uid string, generation int64, worse map[string]State) {
	now, bad := worse[uid]
	if !bad {
		now.Phase = Stands
	}
	now.Generation = generation
	if c.states[uid] != now {
		c.states[uid] = now
		c.say(uid)
	}
}

// say notes that a state changed.
func (c *Controller) say(uid string) {
	c.moved[uid] = true
	signal(c.changed)
}

// worsen makes a policy's state as bad as that of one of its objects.
func worsen(states map[string]State, uid string, s State) {
	if s.Phase.rank() > states[uid].Phase.rank() {
		states[uid] = s
	}
}
