package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// entry is a line of a sidecar's access log.
type entry struct {
	Host    string `json:"host"` // HTTP only
	Source  string `json:"source"`
	Port    any    `json:"port"`
	Rule    any    `json:"rule"`
	Details any    `json:"details"`
}

// accessLog reads what a sidecar has logged so far.
func accessLog(p *process) ([]entry, error) {
	text, err := os.ReadFile(p.stdout)
	if err != nil {
		return nil, fmt.Errorf("read the access log: %w", err)
	}
	var out []entry
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // still being written
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("read the access log %s: %q: %w", p.stdout, line, err)
		}
		out = append(out, e)
	}
	return out, nil
}

// decider is the rule or outcome that decided about a request; on connections, only a refusal is told.
func (e *entry) decider() string {
	if rule, ok := e.Rule.(string); ok && rule != "-" {
		return rule
	}
	details, _ := e.Details.(string)
	_, rest, found := strings.Cut(details, "matched_policy[")
	if !found {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSpace(rest), "]")
}
