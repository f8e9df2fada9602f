//go:build e2e

package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const documentation = "docs/kubernetes.md"

// section is a part of the documentation with commands in it.
type section struct {
	title    string
	commands []string
}

// sections are the commands of the documentation, by the headings that they stand under.
func sections(t *testing.T) []*section {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", documentation))
	if err != nil {
		t.Fatal(err)
	}
	var out []*section
	title, inside := "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case inside && strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			s := out[len(out)-1]
			if n := len(s.commands); n > 0 && strings.HasSuffix(s.commands[n-1], "\\") {
				s.commands[n-1] += "\n" + line
			} else if command := strings.TrimSpace(line); command != "" && !strings.HasPrefix(command, "#") {
				s.commands = append(s.commands, line)
			}
		case strings.HasPrefix(line, "```sh"):
			inside = true
			if len(out) == 0 || out[len(out)-1].title != title {
				out = append(out, &section{title: title})
			}
		case strings.HasPrefix(line, "#"):
			title = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	return out
}

// follow runs the commands of a section of the documentation, one by one, as a reader would.
func (s *suite) follow(t *testing.T, ctx context.Context, title string) {
	t.Helper()
	for _, section := range sections(t) {
		if section.title != title {
			continue
		}
		for _, command := range section.commands {
			out, err := s.command(ctx, "", "bash", "-euo", "pipefail", "-c", command)
			if err != nil {
				t.Fatalf("%s, %q: %v", documentation, title, err)
			}
			t.Logf("$ %s\n%s", command, abridged(out))
		}
		return
	}
	t.Fatalf("%s has no commands under %q", documentation, title)
}

func abridged(text string) string {
	const most = 2000
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}

// followed are the sections that this test follows.
func followed() []string {
	return []string{"Install", "Protect a namespace", "When a policy is not enforced", "Metrics", "Upgrade", "Uninstall"}
}

// TestEveryDocumentedCommandIsRun keeps commands from being documented that nobody ran.
func TestEveryDocumentedCommandIsRun(t *testing.T) {
	t.Parallel()
	var got []string
	for _, s := range sections(t) {
		got = append(got, s.title)
	}
	if strings.Join(got, "; ") != strings.Join(followed(), "; ") {
		t.Errorf("%s has commands under %q; the test follows %q", documentation, got, followed())
	}
}
