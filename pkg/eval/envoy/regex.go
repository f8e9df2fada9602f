package envoy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"
)

// expression is a safe_regex: an RE2 expression that has to match the whole of a value. Envoy's RE2 reads bytes, those of the expression and those of the
// value. Go's package reads runes, so both are given to it with each byte as the rune of its number.
type expression struct {
	text     string // as written
	runes    string // for Go
	once     sync.Once
	compiled *regexp.Regexp // made when it is first needed: of thousands a request meets a few
}

func (c *compiler) expression(text string) (value, error) {
	if known := c.expressions[text]; known != nil {
		return known, nil
	}
	runes, err := toRunes(text)
	if err == nil {
		_, err = syntax.Parse(runes, syntax.Perl)
	}
	if err != nil {
		return nil, fmt.Errorf("safe_regex %q: %w", text, err)
	}
	if foldsBytes(text) {
		return unknownValue("the expression " + strconv.Quote(text) + ", which ignores the case of bytes above ASCII"), nil
	}
	e := &expression{text: text, runes: `\A(?:` + runes + `)\z`}
	if c.expressions == nil {
		c.expressions = map[string]*expression{}
	}
	c.expressions[text] = e
	return e, nil
}

func (e *expression) String() string { return "matches " + strconv.Quote(e.text) }

func (e *expression) matches(_ *asked, s string) answer {
	e.once.Do(func() { e.compiled = regexp.MustCompile(e.runes) }) // it was parsed before
	return answerOf(e.compiled.MatchString(latin1(s)))
}

// latin1 makes each byte the rune of its number.
func latin1(s string) string {
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] < 0x80
	}
	if ascii {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// foldsBytes says whether an expression both ignores case somewhere and names bytes above ASCII. Of these RE2 folds some, and not where they stand in a class.
func foldsBytes(text string) bool {
	folds, above := false, latin1(text) != text
	for i := 0; i < len(text); i++ {
		if flags, found := strings.CutPrefix(text[i:], "(?"); found {
			folds = folds || strings.Contains(flags[:len(flags)-len(strings.TrimLeft(flags, "imsU-"))], "i")
		}
		if text[i] == '\\' && i+1 < len(text) {
			i++
			above = above || strings.IndexByte("x01234567", text[i]) >= 0
		}
	}
	return folds && above
}

// toRunes writes an RE2 expression so that Go's package reads it, which knows no \C.
func toRunes(text string) (string, error) {
	text = latin1(text)
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], `\Q`):
			rest, _, _ := strings.Cut(text[i:], `\E`)
			b.WriteString(rest)
			i += len(rest) - 1
		case strings.HasPrefix(text[i:], `\C`):
			b.WriteString(`(?s:.)`)
			i++
		case text[i] == '\\' && i+1 < len(text):
			b.WriteString(text[i : i+2])
			i++
		case text[i] == '[':
			n := class(text[i:])
			if strings.Contains(strings.ReplaceAll(text[i:i+n], `\\`, ""), `\C`) {
				return "", errors.New(`\C within a class`)
			}
			b.WriteString(text[i : i+n])
			i += n - 1
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String(), nil
}

// class is the length of the character class that an expression begins with.
func class(text string) int {
	i := 1
	if strings.HasPrefix(text[i:], "^") {
		i++
	}
	for first := true; i < len(text); first = false {
		switch {
		case text[i] == '\\':
			i += 2
		case strings.HasPrefix(text[i:], "[:") && strings.Contains(text[i+2:], ":]"):
			i += strings.Index(text[i+2:], ":]") + 4
		case text[i] == ']' && !first:
			return i + 1
		default:
			i++
		}
	}
	return min(i, len(text))
}
