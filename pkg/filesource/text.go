package filesource

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Document is one YAML document of a file, as it was written.
type Document struct {
	// Source is "FILE:LINE".
	Source string
	// Text is everything between two separators, comments included, and the first of them if something stands on its line; JSON is the object in it, nil where there is none.
	Text, JSON []byte

	path  string
	first int // the line before the text
	body  document
}

// Documents reads files and folders, in the order of their names, and takes them apart without understanding them; "-" is stdin. Any error names file and line.
func Documents(paths []string, stdin io.Reader) ([]Document, error) {
	var out []Document
	for _, path := range paths {
		text, isStream, err := readStream(path, stdin)
		if err != nil {
			return nil, err
		}
		files := []string{path}
		if !isStream {
			if files, err = listSome(path); err != nil {
				return nil, err
			}
		}
		for _, file := range files {
			if !isStream {
				if text, err = readBounded(file); err != nil {
					return nil, fmt.Errorf("%s: %w", file, err)
				}
			}
			docs, err := documents(file, text)
			if err != nil {
				return nil, err
			}
			out = append(out, docs...)
		}
	}
	return out, nil
}

// documents splits a file at its separators. A line that begins with three dashes is one wherever it stands: YAML lets no text hold it.
func documents(path string, text []byte) ([]Document, error) {
	switch {
	case len(text) > maxFileBytes:
		return nil, fmt.Errorf("%s: larger than %d MiB: split it", path, maxFileBytes>>20)
	case !utf8.Valid(text) || slices.Contains(text, 0):
		return nil, fmt.Errorf("%s: not text: write YAML in UTF-8", path)
	}
	var out []Document
	first, begin, line := 0, 0, 0
	cut := func(end int) error {
		d := Document{Source: fmt.Sprintf("%s:%d", path, first+1), Text: text[begin:end], path: path, first: first}
		if err := d.parse(); err != nil {
			return err
		}
		out = append(out, d)
		return nil
	}
	for at := 0; at < len(text); line++ {
		end := len(text)
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if rest, separates := bytes.CutPrefix(text[at:end], []byte("---")); separates && (len(rest) == 0 || bytes.ContainsAny(rest[:1], " \t\r\n")) {
			if err := cut(at); err != nil {
				return nil, err
			}
			begin, first = at, line
			if len(bytes.TrimSpace(rest)) == 0 {
				begin, first = end, line+1
			}
		}
		at = end
	}
	return out, cut(len(text))
}

func (d *Document) parse() error {
	var root yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(d.Text))
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		line, why := yamlError(err)
		return d.error(line, "not YAML: "+tabbed(d.Text, line, why))
	}
	body := &root
	if body.Kind == yaml.DocumentNode && len(body.Content) == 1 {
		body = body.Content[0]
	}
	switch {
	case body.Kind == 0 || body.ShortTag() == "!!null":
		return nil
	case body.Kind != yaml.MappingNode:
		return d.error(body.Line, "no object: write apiVersion, kind and metadata")
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return d.error(body.Line, "more than one object: separate them by a line with three dashes")
	}
	object, err := toJSON(body, &budget{nodes: maxNodes, bytes: maxBytes, depth: maxDepth})
	if err != nil {
		at := body.Line
		if positioned, ok := errors.AsType[*positionError](err); ok {
			at = positioned.line
		}
		return d.error(at, err.Error())
	}
	d.JSON, d.body = object, document{node: body}
	return nil
}

func (d *Document) error(line int, why string) error {
	return fmt.Errorf("%s:%d: %s", d.path, d.first+line, why)
}

// At is where a field such as "spec.containers[0].name" stands, or the nearest thing around it, as "FILE:LINE".
func (d *Document) At(field string) string {
	if d.JSON == nil {
		return d.Source
	}
	return fmt.Sprintf("%s:%d", d.path, d.first+d.body.line(field))
}
