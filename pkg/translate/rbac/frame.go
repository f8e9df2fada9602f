package rbac

import "slices"

// frame is the terms of equal ports and methods, without those. Rules of one service often name the same few: they are written once, not under every
// key of every rule.
type frame struct {
	first *term // as it was
	terms []*term
}

// alike returns terms by frames, or nil where that helps nothing. A list keeps its order, and so takes one frame only.
func (t tree) alike(terms []*term) []*frame {
	const few = 3 // each is met by every request
	var out []*frame
	framed := false
	for _, x := range terms {
		f := t.frameOf(out, x)
		if f == nil {
			if len(out) == few || len(out) == 1 && len(terms) <= flat {
				return nil
			}
			f = &frame{first: x}
			out = append(out, f)
		}
		f.terms = append(f.terms, x)
		framed = framed || !x.ports.any || x.methods != nil
	}
	if !framed || 2*len(out) > len(terms) {
		return nil
	}
	for _, f := range out {
		if f.first.ports.any && f.first.methods == nil {
			continue
		}
		for i, x := range f.terms {
			f.terms[i] = x.less(partFrame)
		}
	}
	return out
}

// frameOf finds the frame that a term belongs to.
func (t tree) frameOf(frames []*frame, x *term) *frame {
	for _, f := range frames {
		if f.first.ports.equal(x.ports) && slices.Equal(f.first.methods, x.methods) {
			return f
		}
	}
	return nil
}

// byFrames tries each frame's terms where its ports and methods hold.
func (t tree) byFrames(frames []*frame, dims []dimension, next *onMatch) *onMatch {
	for _, f := range slices.Backward(frames) {
		if frame := f.first.framed(t.in, t.action); len(frame) > 0 {
			next = inOrder(next, &field{when: frame, then: t.build(f.terms, dims, nil)})
		} else {
			next = t.build(f.terms, dims, next)
		}
	}
	return next
}
