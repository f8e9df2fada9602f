package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
)

// What an object may come to, in values, keys and brackets. Its bytes say little of what it costs to read: three of them, "{},", make a container of hundreds, and a number of a few digits can take
// hours to write out. An API server has read an object before it asks, but anybody else can ask as well.
const (
	maxPodValues    = 1 << 16
	maxPolicyValues = 1 << 19 // more than a policy at every limit of its schema holds
	maxQuantity     = 64      // bytes
)

// quantityKeys are the fields of a pod under which quantities stand.
func quantityKeys() []string {
	return []string{"limits", "requests", "overhead", "sizeLimit", "divisor", "allocatedResources", "quantity"}
}

// screen looks at an object before it is read: at most so many values, and no quantity that takes long to write out. It sees what the reader sees, a key that comes twice
// included.
func screen(object []byte, most int) error {
	huge := regexp.MustCompile(`[eE][+-]?[0-9]{4}`)
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.UseNumber()
	var around []level
	for count := 0; ; count++ {
		token, err := decoder.Token()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the object: %w", err)
		case count > most:
			return fmt.Errorf("the object has more than %d values: want fewer", most)
		}
		at := &level{}
		if len(around) > 0 {
			at = &around[len(around)-1]
		}
		text, isText := token.(string)
		if delimiter, ok := token.(json.Delim); ok {
			switch delimiter {
			case '{', '[':
				at.expectsKey = at.isObject // after the value
				around = append(around, level{isObject: delimiter == '{', expectsKey: delimiter == '{', quantity: at.quantity || at.nextQuantity})
			default:
				around = around[:len(around)-1]
			}
			continue
		}
		if at.expectsKey && isText {
			at.expectsKey, at.nextQuantity = false, slices.Contains(quantityKeys(), text)
			continue
		}
		at.expectsKey = at.isObject
		if number, ok := token.(json.Number); ok {
			text = number.String()
		}
		if (at.quantity || at.nextQuantity) && (len(text) > maxQuantity || huge.MatchString(text)) {
			return fmt.Errorf("the quantity %.32q is out of all proportion: write a number and a unit", text)
		}
	}
}

// level is an object or a list that the screen is in.
type level struct {
	isObject, expectsKey   bool
	quantity, nextQuantity bool // what stands in it, or under the present key, is a quantity
}
