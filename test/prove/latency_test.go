package prove_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkEdit measures the time from the rename of a policy's file to the request that gets the new verdict, asked for again and again, and the
// memory of the server. Run it with -benchtime=30x.
func BenchmarkEdit(b *testing.B) {
	s := newShop(b, map[string]string{"a.yaml": onlyFront()})
	s.serve()
	s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	s.eventuallyEnforced("shop/cart")
	open, shut := onlyFront(), policy("cart", "ingress: []")
	var took []time.Duration
	for i := range b.N {
		body, want := shut, http.StatusForbidden
		if i%2 == 1 {
			body, want = open, http.StatusOK
		}
		start := time.Now()
		s.replace("a.yaml", body)
		for s.send(front, http.MethodGet, "/", "").status != want {
			if time.Since(start) > 10*time.Second {
				b.Fatal("the edit has no effect")
			}
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/edit-median")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms/edit-max")
	b.ReportMetric(s.memory("VmRSS"), "MiB-RSS")
}

// memory is a line of the server's memory in MiB: VmRSS, or VmHWM for the most that it ever was.
func (s *stage) memory(line string) float64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.server.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), line+":")
	var kilobytes float64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		s.t.Fatal(err)
	}
	return kilobytes / 1024
}
