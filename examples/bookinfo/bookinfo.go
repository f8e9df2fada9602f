// Package bookinfo is the example's YAML, as kubectl apply takes it. Output: Files, with the folders platform and policies.
package bookinfo

import "embed"

// Files holds the folders platform (the application) and policies (who may call whom, and how).
//
//go:embed platform policies
var Files embed.FS
