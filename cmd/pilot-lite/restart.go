package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/identity"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// restartEarly is how long before the end of its trust a pod should be created again.
const restartEarly = 90 * 24 * time.Hour

// restartReason is why a pod should be created again: what it would be given now is something else, or it will soon not trust the control plane any more. A control
// plane that does not inject gives nothing.
func restartReason(runs, given kube.Images, age time.Duration) string {
	var why []string
	add := func(what, runs, given string) {
		if given != "" && runs != given {
			why = append(why, fmt.Sprintf("%s is %s, and new pods get %s", what, cmp.Or(runs, "unknown"), given))
		}
	}
	add("the sidecar", runs.Proxy, given.Proxy)
	add("the capture", runs.Capture, given.Capture)
	if trusts := identity.DefaultLifetimes().Overlap; age > trusts-restartEarly {
		const day = 24 * time.Hour
		why = append(why, fmt.Sprintf("it was created more than %d days ago, and a sidecar trusts the control plane for %d", (trusts-restartEarly)/day, trusts/day))
	}
	return strings.Join(why, "; ")
}

// restart is a workload, and why its pods should be created again.
type restart struct{ workload, why string }

// printRestarts lists them by workload, since that is what is restarted; nothing where nobody need be.
func printRestarts(w io.Writer, proxies []xds.ProxyStatus) {
	counts := map[restart]int{}
	for _, p := range proxies {
		if p.Restart != "" {
			counts[restart{cmp.Or(p.Workload, p.Node), oneLine(p.Restart)}]++
		}
	}
	if len(counts) == 0 {
		return
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "RESTART\tPROXIES\tWHY")
	for _, r := range slices.SortedFunc(maps.Keys(counts), func(a, b restart) int { return cmp.Or(cmp.Compare(a.workload, b.workload), cmp.Compare(a.why, b.why)) }) {
		fmt.Fprintf(w, "%s\t%d\t%s\n", r.workload, counts[r], r.why)
	}
}
