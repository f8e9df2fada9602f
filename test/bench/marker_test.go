package bench_test

import (
	"bytes"
	"fmt"
	"strconv"
)

// markerPrefix has no character that an expression would escape: a marker stands in a slot as it is.
var markerPrefix = []byte("/edit_")

const markerDigits = 9

// markerText is a path that is known again in a marshalled slot.
func markerText(marker int64) string {
	return fmt.Sprintf("%s%0*d", markerPrefix, markerDigits, marker)
}

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
