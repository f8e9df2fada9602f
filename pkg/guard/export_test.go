package guard

import (
	"github.com/pilot-lite/pilot-lite/pkg/diff"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Comparing has a guard compare otherwise.
func (g *Guard) Comparing(flips func(before, after *model.Index, stop func() bool) ([]diff.Flip, bool)) *Guard {
	g.flips = flips
	return g
}
