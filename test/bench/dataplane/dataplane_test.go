// Package dataplane_test measures what a request costs an Envoy that runs a workload's configuration as the control plane delivers it, beside the same
// Envoy without RBAC and the same Envoy with a plain list of rules. Input: the kinds of policies of internal/rulemix. Output: a table and a JSON file.
// One entry point: BenchmarkDataPlane, which `make bench-dataplane` runs.
package dataplane_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/rulemix"
)

// effort is how much is measured.
type effort struct {
	rules  []int
	list   int // the most rules of which a plain list is run: large ones take long to start
	rounds int
	block  time.Duration // of one Envoy, before it is the next one's turn
}

func chooseEffort() effort {
	if os.Getenv("BENCH_LONG") != "" {
		return effort{rules: []int{1, 10, 100, 1000, 10000}, list: 10000, rounds: 7, block: 150 * time.Millisecond}
	}
	return effort{rules: []int{10, 1000, 10000}, list: 1024, rounds: 5, block: 120 * time.Millisecond}
}

// expressionRules are the sizes of policies of regular expressions: some, a policy's rules, and those of sixteen policies.
func expressionRules() []int { return []int{1, 10, 64, 1024} }

// BenchmarkDataPlane runs each mix at each size as a benchmark of its own, so that -bench chooses among them.
func BenchmarkDataPlane(b *testing.B) {
	e := chooseEffort()
	r := &report{Machine: thisMachine(), Rounds: e.rounds, Block: e.block.String(), Connections: connections}
	run := func(m rulemix.Mix, rules []int) {
		for _, n := range rules {
			if m.Most > 0 && n > m.Most {
				continue
			}
			b.Run(fmt.Sprintf("%s/rules=%d", m.Name, n), func(b *testing.B) {
				c := measure(b, m, n, e)
				r.add(c)
				b.ReportMetric(c.Ratio, "x-cpu")
				b.ReportMetric(c.None.Micros, "none-us")
				b.ReportMetric(c.Product.Micros, "product-us")
				b.ReportMetric(0, "ns/op") // of no meaning
			})
		}
	}
	for _, m := range rulemix.Mixes() {
		run(m, e.rules)
	}
	for _, m := range rulemix.Expressions() {
		run(m, expressionRules())
	}
	r.write(b)
}

// cell is what was measured of one mix at one size.
type cell struct {
	Mix     string `json:"mix"`
	Rules   int    `json:"rules"`
	Denied  bool   `json:"denied"` // the request is refused: no RBAC is then an answer of 403 that Envoy gives by itself
	None    cost   `json:"none"`
	Product cost   `json:"product"`
	Plain   *cost  `json:"plain,omitempty"` // absent where the list decides otherwise than the policies mean, or is too large
	// Ratio and PlainRatio are of processor time to that without RBAC: medians over the rounds.
	Ratio      float64 `json:"ratio"`
	PlainRatio float64 `json:"plainRatio,omitempty"`
	SlotBytes  int     `json:"slotBytes"`
	PlainBytes int     `json:"plainBytes"`
}

// cost is the median over the blocks, and their quartiles.
type cost struct {
	Micros    float64 `json:"cpuMicrosPerRequest"`
	Low       float64 `json:"lowerQuartile"`
	High      float64 `json:"upperQuartile"`
	PerSecond float64 `json:"requestsPerSecond"`
	Requests  int     `json:"requests"`
}

// measure alternates between the configurations in short blocks, each round in the other order, so that what else the machine does falls on all of them
// alike; a ratio is the median of those within a round.
func measure(b *testing.B, m rulemix.Mix, n int, e effort) *cell {
	b.Helper()
	p := startProxy(b, m, n, n <= e.list)
	c := &cell{Mix: m.Name, Rules: n, Denied: m.Denied(), SlotBytes: p.slotBytes, PlainBytes: p.plainBytes}
	request, source := []byte(m.Request(n-1)), m.Source(n-1)
	loads := map[kind]*load{}
	kinds := []kind{none, product, plain}
	if m.Denied() {
		kinds[0] = refusal
	}
	if p.envoys[plain] == nil {
		kinds = kinds[:2]
	}
	for _, k := range kinds {
		loads[k] = newLoad(b, source, p.sockets[k], request)
		status := loads[k].probe(b)
		switch want := wantStatus(m.Denied()); {
		case status == want:
		case k == plain:
			kinds = kinds[:2]
		default:
			b.Fatalf("%s: status %d, want %d", k, status, want)
		}
	}
	blocks := map[kind][]block{}
	baseline := kinds[0]
	for round := range e.rounds + 1 {
		slices.Reverse(kinds)
		for _, k := range kinds {
			before, start := p.envoys[k].CPU(), time.Now()
			done := loads[k].run(b, e.block)
			taken := block{requests: done, cpu: p.envoys[k].CPU() - before, wall: time.Since(start)}
			if round > 0 { // the first one warms up
				blocks[k] = append(blocks[k], taken)
			}
		}
	}
	c.None, c.Product = summarize(blocks[baseline]), summarize(blocks[product])
	c.Ratio = ratio(blocks[product], blocks[baseline])
	if len(blocks[plain]) > 0 {
		s := summarize(blocks[plain])
		c.Plain, c.PlainRatio = &s, ratio(blocks[plain], blocks[baseline])
	}
	return c
}

func wantStatus(denied bool) int {
	if denied {
		return 403
	}
	return 200
}

type block struct {
	requests  int
	cpu, wall time.Duration
}

func (b block) micros() float64 {
	return float64(b.cpu) / float64(b.requests) / float64(time.Microsecond)
}

func ratio(of, to []block) float64 {
	var all []float64
	for i := range of {
		all = append(all, of[i].micros()/to[i].micros())
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func summarize(blocks []block) cost {
	var micros, rates []float64
	out := cost{}
	for _, b := range blocks {
		micros = append(micros, b.micros())
		rates = append(rates, float64(b.requests)/b.wall.Seconds())
		out.Requests += b.requests
	}
	slices.Sort(micros)
	slices.Sort(rates)
	n := len(blocks)
	out.Low, out.Micros, out.High, out.PerSecond = micros[n/4], micros[n/2], micros[n*3/4], rates[n/2]
	return out
}
