package dataplane_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// report is all that was measured in one run.
type report struct {
	Machine     machine `json:"machine"`
	Rounds      int     `json:"rounds"`
	Block       string  `json:"block"`
	Connections int     `json:"connections"`
	Cells       []*cell `json:"cells"`
}

type machine struct {
	Cores int    `json:"cores"`
	Model string `json:"model"`
	Go    string `json:"go"`
}

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	content, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(content)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.Model = strings.TrimSpace(value)
		}
	}
	return m
}

// add keeps the last measurement of a mix and size: the framework may repeat a benchmark.
func (r *report) add(c *cell) {
	r.Cells = slices.DeleteFunc(r.Cells, func(o *cell) bool { return o.Mix == c.Mix && o.Rules == c.Rules })
	r.Cells = append(r.Cells, c)
}

// write prints the table, and leaves it and all figures in the directory that BENCH_OUT names.
func (r *report) write(b *testing.B) {
	b.Helper()
	dir := os.Getenv("BENCH_OUT")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "bin", "bench")
	}
	figures, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		b.Fatal(err)
	}
	table := r.table()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		b.Fatal(err)
	}
	for name, content := range map[string]string{"dataplane.json": string(figures) + "\n", "dataplane.txt": table} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	fmt.Print("\n" + table)
}

func (r *report) table() string {
	var out strings.Builder
	fmt.Fprintf(&out, "CPU and requests per second as ratios to the same Envoy without RBAC; us: CPU for a request. %d cores, %s; medians of %d blocks of %s.\n\n",
		r.Machine.Cores, r.Machine.Model, r.Rounds, r.Block)
	const format = "%-27s %7s %9s %9s %7s %9s %7s %10s\n"
	fmt.Fprintf(&out, format, "mix", "rules", "none us", "ours us", "CPU", "req/s", "list", "slot bytes")
	for _, c := range r.Cells {
		list := "-"
		if c.Plain != nil {
			list = fmt.Sprintf("%.2f", c.PlainRatio)
		}
		mix := c.Mix
		if c.Denied {
			mix += " (403)"
		}
		fmt.Fprintf(&out, format, mix, fmt.Sprint(c.Rules), fmt.Sprintf("%.1f", c.None.Micros), fmt.Sprintf("%.1f", c.Product.Micros),
			fmt.Sprintf("%.2f", c.Ratio), fmt.Sprintf("%.2f", c.Product.PerSecond/c.None.PerSecond), list, fmt.Sprint(c.SlotBytes))
	}
	return out.String()
}
