package bench_test

import (
	"bytes"
	"strconv"
)

var markerPrefix = []byte("/edit-")

// eachMarker calls do with the digits of every marker in a slot, which it may change.
func eachMarker(slot []byte, do func(digits []byte)) {
	for {
		i := bytes.Index(slot, markerPrefix)
		if i < 0 || len(slot) < i+len(markerPrefix)+markerDigits {
			return
		}
		slot = slot[i+len(markerPrefix):]
		do(slot[:markerDigits])
	}
}

// newestMarker is the greatest marker in a slot, 0 where there is none.
func newestMarker(slot []byte) int64 {
	newest := int64(0)
	eachMarker(slot, func(digits []byte) {
		if n, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
			newest = max(newest, n)
		}
	})
	return newest
}
