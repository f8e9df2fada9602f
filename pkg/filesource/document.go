package filesource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one object of a file as it was written, with its lines.
type document struct {
	number int // of the YAML document in its file, from 1
	node   *yaml.Node
	json   []byte
}

// What a document may come to once its aliases are written out.
const (
	maxNodes = 1_000_000
	maxBytes = 4 * maxFileBytes
	maxDepth = 100
)

// budget is what is left of it.
type budget struct{ nodes, bytes, depth int }

// split parses a file into its documents; a List counts as its items. A file without any document is an error, as it is to kubectl: whoever cut
// it to nothing hardly meant to open what its policies shut.
func split(content []byte) ([]document, error) {
	var out []document
	empty := true
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for number := 1; ; number++ {
		var root yaml.Node
		err := decoder.Decode(&root)
		if errors.Is(err, io.EOF) && empty {
			return nil, &positionError{line: 1, err: errors.New("the file holds no object: if its objects are to go, remove the file")}
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			line, why := yamlError(err)
			return nil, &positionError{line: line, err: fmt.Errorf("document %d is not YAML: %s", number, tabbed(content, line, why))}
		}
		body := &root
		if body.Kind == yaml.DocumentNode && len(body.Content) == 1 {
			body = body.Content[0]
		}
		if body.Kind == 0 || body.ShortTag() == "!!null" {
			continue // an empty document
		}
		empty = false
		docs, err := items(number, body)
		if err != nil {
			return nil, err
		}
		out = append(out, docs...)
	}
}

// items are the objects of one document: itself, or the items of a List.
func items(number int, node *yaml.Node) ([]document, error) {
	if node.Kind != yaml.MappingNode {
		return nil, &positionError{line: node.Line, err: fmt.Errorf("document %d is no object: write apiVersion, kind and metadata", number)}
	}
	list := child(node, "items")
	if kind := scalar(child(node, "kind")); list != nil && list.Kind == yaml.SequenceNode && strings.HasSuffix(kind, "List") {
		var out []document
		for _, item := range list.Content {
			inherit(node, item, strings.TrimSuffix(kind, "List"))
			docs, err := items(number, item)
			if err != nil {
				return nil, err
			}
			out = append(out, docs...)
		}
		return out, nil
	}
	body, err := toJSON(node, &budget{nodes: maxNodes, bytes: maxBytes, depth: maxDepth})
	if err != nil {
		return nil, err
	}
	return []document{{number: number, node: node, json: body}}, nil
}

// inherit gives an item of a typed list (PodList) the kind that the list implies: an API server leaves it out.
func inherit(list, item *yaml.Node, kind string) {
	if item.Kind != yaml.MappingNode || kind == "" {
		return
	}
	if child(item, "kind") == nil {
		item.Content = append(item.Content, text("kind", item.Line), text(kind, item.Line))
	}
	if version := child(list, "apiVersion"); version != nil && child(item, "apiVersion") == nil {
		item.Content = append(item.Content, text("apiVersion", item.Line), version)
	}
}

func text(value string, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Line: line}
}

// child is the value of a mapping's key, nil where it has none.
func child(node *yaml.Node, key string) *yaml.Node {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

// resolved is what a node stands for: an alias is another node.
func resolved(node *yaml.Node) *yaml.Node {
	for node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

func scalar(node *yaml.Node) string {
	if node == nil || node.Kind != yaml.ScalarNode {
		return ""
	}
	return node.Value
}

// toJSON writes a node as JSON. A key that is written twice is an error: which of the two was meant nobody knows.
func toJSON(node *yaml.Node, left *budget) ([]byte, error) {
	left.nodes--
	left.bytes -= len(node.Value)
	left.depth--
	defer func() { left.depth++ }()
	if left.nodes < 0 || left.bytes < 0 || left.depth < 0 {
		return nil, &positionError{line: node.Line, err: errors.New("the document is too large or too deep once its aliases are written out: use fewer of them")}
	}
	switch node.Kind {
	case yaml.AliasNode:
		return toJSON(node.Alias, left)
	case yaml.MappingNode:
		return mappingToJSON(node, left)
	case yaml.SequenceNode:
		out := []byte{'['}
		for i, item := range node.Content {
			if i > 0 {
				out = append(out, ',')
			}
			body, err := toJSON(item, left)
			if err != nil {
				return nil, err
			}
			out = append(out, body...)
		}
		return append(out, ']'), nil
	}
	var value any
	if err := node.Decode(&value); err != nil {
		return nil, &positionError{line: node.Line, err: err}
	}
	switch {
	case node.ShortTag() == "!!timestamp" || node.ShortTag() == "!!binary":
		value = node.Value
	case isOldBool(node):
		value = strings.Contains(" y yes on ", " "+strings.ToLower(node.Value)+" ")
	}
	out, err := json.Marshal(value)
	if err != nil {
		return nil, &positionError{line: node.Line, err: fmt.Errorf("the value %q has no JSON form", node.Value)}
	}
	return out, nil
}

// isOldBool says whether kubectl, which reads YAML 1.1, takes a word for true or false that is text in YAML 1.2.
func isOldBool(node *yaml.Node) bool {
	if node.Style != 0 || node.ShortTag() != "!!str" {
		return false
	}
	switch node.Value {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return true
	}
	return false
}

func mappingToJSON(node *yaml.Node, left *budget) ([]byte, error) {
	out := []byte{'{'}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			return nil, &positionError{line: key.Line, err: errors.New("a key that is no plain word: write each field out")}
		}
		if isOldBool(key) {
			return nil, &positionError{line: key.Line, err: fmt.Errorf("kubectl reads the key %s as true or false: write it in quotes", key.Value)}
		}
		if first, twice := seen[key.Value]; twice {
			return nil, &positionError{line: key.Line, err: fmt.Errorf("the key %q stands on line %d already: remove one of the two", key.Value, first)}
		}
		seen[key.Value] = key.Line
		body, err := toJSON(node.Content[i+1], left)
		if err != nil {
			return nil, err
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(appendKey(out, key.Value), ':'), body...)
	}
	return append(out, '}'), nil
}

// line is where a field path such as "spec.ingress[0].ports" stands, or the nearest thing around it.
func (d *document) line(field string) int {
	node := d.node
	for step := range strings.FieldsFuncSeq(field, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		node = resolved(node)
		next := child(node, step)
		if i, err := strconv.Atoi(step); err == nil && node.Kind == yaml.SequenceNode && i < len(node.Content) {
			next = node.Content[i]
		}
		if next == nil {
			break
		}
		node = next
	}
	return node.Line
}

// positionError is an error with the line that it stands on.
type positionError struct {
	line int
	err  error
}

func (e *positionError) Error() string { return e.err.Error() }
func (e *positionError) Unwrap() error { return e.err }

// yamlError reads the line out of the YAML library's message, which has no field for it.
func yamlError(err error) (line int, why string) {
	why = strings.TrimPrefix(err.Error(), "yaml: ")
	if at, rest, found := strings.Cut(why, ": "); found && strings.HasPrefix(at, "line ") {
		if n, err := strconv.Atoi(at[len("line "):]); err == nil {
			return n, rest
		}
	}
	return 1, why
}

// tabbed says of YAML that cannot be read on a line that a tab is to blame, where it is: the library's words do not name it, and nobody sees it.
func tabbed(content []byte, line int, why string) string {
	lines := bytes.SplitN(content, []byte("\n"), line+1)
	if line > len(lines) || why != "found character that cannot start any token" {
		return why
	}
	if text := lines[line-1]; bytes.ContainsRune(text[:len(text)-len(bytes.TrimLeft(text, " \t"))], '\t') {
		return "a tab indents the line: indent with spaces"
	}
	return why
}

// appendKey writes a key as a JSON string.
func appendKey(out []byte, key string) []byte {
	quoted, err := json.Marshal(key)
	if err != nil { // a string always has a JSON form
		return append(out, '"', '"')
	}
	return append(out, quoted...)
}
