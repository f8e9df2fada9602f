package main

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// In light and dark, text is read against what lies behind it (WCAG 2.2: 4.5 to 1), and the edge of the field to write in is seen (3 to 1).
func TestContrast(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("page.html")
	if err != nil {
		t.Fatal(err)
	}
	light, rest, _ := strings.Cut(string(page), "@media (prefers-color-scheme: dark)")
	dark, rules, _ := strings.Cut(rest, "* { box-sizing")
	for name, text := range map[string]string{"light": light, "dark": dark} {
		colors := map[string]float64{}
		for _, c := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6})`).FindAllStringSubmatch(text, -1) {
			colors[c[1]] = luminance(t, c[2])
		}
		for _, pair := range []struct {
			front, back string
			least       float64
		}{
			{"ink", "paper", 4.5},
			{"ink", "card", 4.5},
			{"soft", "paper", 4.5},
			{"soft", "card", 4.5},
			{"accent", "paper", 4.5},
			{"accent", "card", 4.5},
			{"on-accent", "accent", 4.5},
			{"bad", "bad-paper", 4.5},
			{edge(t, rules, "input[type=text]", "border"), "card", 3},
			{edge(t, rules, "input::placeholder", "color"), "paper", 4.5},
		} {
			front, back := colors[pair.front], colors[pair.back]
			if got := (max(front, back) + 0.05) / (min(front, back) + 0.05); got < pair.least {
				t.Errorf("%s: %s on %s has a contrast of %.1f to 1, want %.1f", name, pair.front, pair.back, got, pair.least)
			}
		}
	}
}

// edge is the variable that a rule's property takes its colour from.
func edge(t *testing.T, rules, selector, property string) string {
	t.Helper()
	_, body, _ := strings.Cut(rules, "\n"+selector+" {")
	body, _, _ = strings.Cut(body, "}")
	found := regexp.MustCompile(` ` + property + `: [^;]*var\(--([a-z-]+)\)`).FindStringSubmatch(body)
	if found == nil {
		t.Fatalf("%s has no %s", selector, property)
	}
	return found[1]
}

// luminance is a colour's relative luminance, as WCAG defines it.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	out := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(v) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		out += weight * c
	}
	return out
}
