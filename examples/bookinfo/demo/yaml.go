package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// splitYAML returns the documents of a file.
func splitYAML(text []byte) [][]byte {
	var out [][]byte
	for document := range bytes.SplitSeq(append([]byte("\n"), text...), []byte("\n---")) {
		if len(bytes.TrimSpace(document)) > 0 {
			out = append(out, document)
		}
	}
	return out
}

// lineWidth is how long a line of compact YAML may be.
const lineWidth = 150

// compactYAML is a document with every value on one line that fits on one.
func compactYAML(document []byte) (string, error) {
	text, err := yaml.YAMLToJSON(document)
	if err != nil {
		return "", err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return "", err
	}
	p := yamlPrinter{
		plain: regexp.MustCompile(`^[A-Za-z/][-A-Za-z0-9./_]*$`),
		first: []string{"apiVersion", "kind", "namespace", "name", "podSelector", "policyTypes", "from", "to", "key", "operator", "ingress"},
	}
	top, ok := v.(map[string]any)
	if !ok {
		return p.flow(v) + "\n", nil
	}
	p.mapping(top, "")
	return p.out.String(), nil
}

type yamlPrinter struct {
	plain *regexp.Regexp // strings that need no quotes, unless they read as something else
	first []string       // keys that stand before others, as people write them
	out   strings.Builder
}

func (p *yamlPrinter) keys(m map[string]any) []string {
	rank := func(key string) int {
		if i := slices.Index(p.first, key); i >= 0 {
			return i
		}
		return len(p.first)
	}
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b)) })
}

func (p *yamlPrinter) mapping(m map[string]any, indent string) {
	for _, key := range p.keys(m) {
		p.out.WriteString(indent + p.flow(key) + ":")
		line := p.flow(m[key])
		fits := len(indent)+len(key)+2+len(line) <= lineWidth
		// At the top the parts of an object stand apart, but for its name.
		if !structured(m[key]) || fits && (indent != "" || key == "metadata") {
			p.out.WriteString(" " + line + "\n")
			continue
		}
		p.out.WriteString("\n")
		switch v := m[key].(type) {
		case map[string]any:
			p.mapping(v, indent+"  ")
		case []any:
			p.sequence(v, indent)
		}
	}
}

func (p *yamlPrinter) sequence(s []any, indent string) {
	for _, each := range s {
		m, isMap := each.(map[string]any)
		if line := p.flow(each); !isMap || len(indent)+2+len(line) <= lineWidth {
			p.out.WriteString(indent + "- " + line + "\n")
			continue
		}
		inner := yamlPrinter{plain: p.plain, first: p.first}
		inner.mapping(m, indent+"  ")
		p.out.WriteString(indent + "- " + strings.TrimPrefix(inner.out.String(), indent+"  "))
	}
}

func structured(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// flow is a value on one line.
func (p *yamlPrinter) flow(v any) string {
	switch v := v.(type) {
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, key := range p.keys(v) {
			parts = append(parts, p.flow(key)+": "+p.flow(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		parts := make([]string, 0, len(v))
		for _, each := range v {
			parts = append(parts, p.flow(each))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case string:
		var read any
		if err := yaml.Unmarshal([]byte(v), &read); p.plain.MatchString(v) && err == nil && read == any(v) {
			return v
		}
		text, _ := json.Marshal(v) // a string: it cannot fail
		return string(text)
	case nil:
		return "null"
	}
	return fmt.Sprint(v)
}
