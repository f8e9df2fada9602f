package diff

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// bitset is a set of small numbers. Sets that meet in one operation are equally long.
type bitset []uint64

const wordBits = 64

func newBitset(n int) bitset { return make(bitset, (n+wordBits-1)/wordBits) }

// fullBitset holds all numbers below n.
func fullBitset(n int) bitset {
	out := newBitset(n)
	for i := range n {
		out.add(i)
	}
	return out
}

func (b bitset) add(i int)      { b[i/wordBits] |= 1 << (i % wordBits) }
func (b bitset) has(i int) bool { return b[i/wordBits]>>(i%wordBits)&1 == 1 }

func (b bitset) addAll(o bitset) {
	for i := range o {
		b[i] |= o[i]
	}
}

func (b bitset) and(o bitset) bitset {
	out := make(bitset, len(b))
	for i := range b {
		out[i] = b[i] & o[i]
	}
	return out
}

func (b bitset) minus(o bitset) bitset {
	out := make(bitset, len(b))
	for i := range b {
		out[i] = b[i] &^ o[i]
	}
	return out
}

// with is the set and one number more.
func (b bitset) with(i int) bitset {
	out := slices.Clone(b)
	out.add(i)
	return out
}

func (b bitset) empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

func (b bitset) meets(o bitset) bool {
	for i := range b {
		if b[i]&o[i] != 0 {
			return true
		}
	}
	return false
}

// first is the smallest number of a set that is not empty.
func (b bitset) first() int {
	for at, w := range b {
		if w != 0 {
			return at*wordBits + bits.TrailingZeros64(w)
		}
	}
	return -1
}

func (b bitset) each(f func(i int)) {
	for at, w := range b {
		for ; w != 0; w &= w - 1 {
			f(at*wordBits + bits.TrailingZeros64(w))
		}
	}
}

// key is an exact encoding.
func (b bitset) key() string {
	out := make([]byte, 0, len(b)*8)
	for _, w := range b {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	return string(out)
}
