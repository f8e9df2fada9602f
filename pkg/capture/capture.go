// Package capture makes the kernel hand a pod's inbound TCP connections to its sidecar, and refuse those that would go around it. Input: a Config.
// Output: one nftables table in the network namespace of the process. One entry point: Apply (Verify reads the table back, Ruleset shows it).
//
// The rules outlive the process, and whatever happens to the sidecar: while it is down, connections are refused. What is not TCP is left to the
// NetworkPolicy beside the pod, and what a process of the pod sends to itself is nobody else's business.
package capture

import (
	"fmt"
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Config says what is not captured.
type Config struct {
	// ExcludedInbound are ports whose callers reach the application directly, past every policy of the sidecar.
	ExcludedInbound []uint16
}

// tableName is the table's name, in the family that holds IPv4 and IPv6 alike.
const tableName = "pilot_lite"

// excluded are the ports that are left alone, sorted, each once.
func (c Config) excluded() ([]uint16, error) {
	ports := slices.Compact(slices.Sorted(slices.Values(c.ExcludedInbound)))
	for _, p := range ports {
		if p == 0 {
			return nil, fmt.Errorf("excluded port %d: want 1 to 65535", p)
		}
		if p >= model.ReservedFirst && p <= model.ReservedLast {
			return nil, fmt.Errorf("excluded port %d: %d to %d are the sidecar's own", p, model.ReservedFirst, model.ReservedLast)
		}
	}
	return ports, nil
}
