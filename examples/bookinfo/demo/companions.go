package main

import (
	"context"
	"path/filepath"
)

// showCompanions prints the NetworkPolicies that the node's kernel would enforce beside the sidecars.
func (w *world) showCompanions(ctx context.Context, out *output) (bool, error) {
	text, err := w.command(ctx, "translate", "-f", filepath.Join(w.dir, "yaml"), "--companions")
	if err != nil {
		return false, err
	}
	out.head("Companion NetworkPolicies (pilot-lite translate --companions)")
	out.text(text)
	return true, nil
}
