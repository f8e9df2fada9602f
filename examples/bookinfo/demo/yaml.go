package main

import "bytes"

// splitYAML returns the documents of a file.
func splitYAML(text []byte) [][]byte {
	var out [][]byte
	for _, document := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
		if len(bytes.TrimSpace(document)) > 0 {
			out = append(out, document)
		}
	}
	return out
}
