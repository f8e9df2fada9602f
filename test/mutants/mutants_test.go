package mutants_test

import (
	"slices"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// mutant is a bug: the translator is given something else than there is, or something else than it made is sent.
type mutant struct {
	name     string
	snapshot func(*model.Snapshot)
	sent     func([]proto.Message) []proto.Message
	// slots are those that the changed snapshot has its effect on; none: on everything.
	slots []string
}

// translate is what a translator with the bug sends for a world, and whether it differs from what should be sent.
func (m *mutant) translate(w *world) (sent []proto.Message, differs bool) {
	sent = slices.Clone(w.sent)
	if m.snapshot != nil {
		s := clone(w.snapshot)
		m.snapshot(s)
		for _, r := range translated(s) {
			i := slices.IndexFunc(sent, func(x proto.Message) bool { return nameOf(x) == nameOf(r) })
			if slot, isSlot := r.(*corev3.TypedExtensionConfig); i >= 0 && (m.slots == nil || isSlot && slices.Contains(m.slots, slot.GetName())) {
				sent[i] = r
			}
		}
	}
	if m.sent != nil {
		sent = m.sent(sent)
	}
	for i := range sent {
		differs = differs || sent[i] != w.sent[i] && !proto.Equal(sent[i], w.sent[i])
	}
	return sent, differs
}

func nameOf(m proto.Message) string {
	return string(m.ProtoReflect().Descriptor().Name()) + m.(interface{ GetName() string }).GetName()
}

// drawnWorlds are those that every mutant is shown: always the same.
var drawnWorlds = sync.OnceValue(drawWorlds)

func drawWorlds() []*world {
	const worlds = 400
	generator := rapid.Custom(drawWorld)
	out := make([]*world, 0, worlds)
	for i := range worlds {
		out = append(out, generator.Example(i))
	}
	return out
}

// Every planted bug is noticed in one of the worlds.
func TestPlantedBugsAreNoticed(t *testing.T) {
	t.Parallel()
	planted := mutants()
	const least = 25
	if len(planted) < least {
		t.Fatalf("%d bugs are planted, want %d", len(planted), least)
	}
	for _, m := range planted {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for i, w := range drawnWorlds() {
				sent, differs := m.translate(w)
				if !differs {
					continue
				}
				if found := violated(w, sent); found != "" {
					t.Logf("noticed in world %d: %.300s", i, found)
					return
				}
			}
			t.Errorf("nobody notices: %s", m.name)
		})
	}
}

// The worlds themselves are as they should be, so that what is noticed is the bug.
func TestWorldsWithoutBugs(t *testing.T) {
	t.Parallel()
	for i, w := range drawnWorlds() {
		if found := violated(w, w.sent); found != "" {
			t.Fatalf("world %d: %s", i, found)
		}
	}
}
