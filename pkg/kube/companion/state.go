package companion

import (
	"maps"

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

// State says how a policy's companions stand.
func (c *Controller) State(policyUID string) State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.states[policyUID]
}

func (c *Controller) publish(states map[string]State) {
	c.mu.Lock()
	same := maps.Equal(c.states, states)
	c.states = states
	c.mu.Unlock()
	if !same {
		signal(c.changed)
	}
}

// statesOf are the states of policies of which nothing bad is known.
func statesOf(policies []model.PolicyRef) map[string]State {
	out := make(map[string]State, len(policies))
	for _, p := range policies {
		out[p.UID] = State{Phase: Stands, Generation: p.Generation}
	}
	return out
}

// worsen makes a policy's state as bad as that of one of its objects.
func worsen(states map[string]State, uid string, s State) {
	if old, known := states[uid]; known && s.Phase.rank() > old.Phase.rank() {
		s.Generation = old.Generation
		states[uid] = s
	}
}
