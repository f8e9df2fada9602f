package bench_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// results are the samples of a run.
type results struct {
	Samples []sample `json:"samples"`
}

func (r *results) add(other *results) { r.Samples = append(r.Samples, other.Samples...) }

// run describes where results come from.
type run struct {
	Time      string `json:"time"`
	CPUs      int    `json:"cpus"`
	GoVersion string `json:"goVersion"`
	results
}

// write prints the tables, and keeps them and the samples in the folder of results.
func (r *results) write(t testing.TB) {
	t.Helper()
	dir := resultsFolder(t)
	text, err := json.MarshalIndent(run{time.Now().UTC().Format(time.RFC3339), runtime.NumCPU(), runtime.Version(), *r}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	tables := r.tables()
	for name, body := range map[string][]byte{"controlplane.json": text, "controlplane.txt": []byte(tables)} {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Print("\n" + tables)
}

// resultsFolder is where results are kept; it is made.
func resultsFolder(t testing.TB) string {
	t.Helper()
	dir := cmp.Or(os.Getenv(resultsVariable), filepath.Join("..", "..", "bin", "bench"))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// column is a value of the table: how it is shown, and that a ratio to the floor is of interest.
type column struct {
	value, title string
	show         func(v float64) string
	ratio        bool
}

func columns() []column {
	ms := func(v float64) string { return fmt.Sprintf("%.1f", v*1000) }
	kib := func(v float64) string { return fmt.Sprintf("%.1f", v/1024) }
	mib := func(v float64) string { return fmt.Sprintf("%.1f", v/(1<<20)) }
	plain := func(v float64) string { return fmt.Sprintf("%.4g", v) }
	return []column{
		{"first", "first ms", ms, false},
		{"median", "median ms", ms, false},
		{"last", "last ms", ms, true},
		{"lag-median", "lag ms", ms, true},
		{"lag-99", "99% ms", ms, false},
		{"lag-max", "max ms", ms, true},
		{"cpu", "cpu ms", ms, true},
		{"path-cpu", "xds path", ms, true},
		{"cpu-companions", "companions", ms, false},
		{"cpu-status", "status", ms, false},
		{"messages", "messages", plain, true},
		{"bytes", "KiB", kib, true},
		{"wire-to-sidecars", "wire KiB", kib, false},
		{"allocations", "allocs", plain, false},
		{"rss", "RSS MiB", mib, false},
		{"peak-rss", "peak MiB", mib, true},
		{"process-to-ready", "ready ms", ms, false},
		{"edits-a-second", "edits/s", plain, false},
	}
}

// path is the processor time of what an edit is on its way to the sidecars: all but what writes companions and statuses, and their part of what cannot be told apart.
func path(values map[string]float64) {
	writers, known := 0.0, 0.0
	for name, v := range values {
		part, is := strings.CutPrefix(name, "cpu-")
		if !is {
			continue
		}
		switch part {
		case "companions", "status", "leader":
			writers += v
			known += v
		case "xds", "rebuild", "watch":
			known += v
		}
	}
	if values["path-cpu"] = values["cpu"]; known > 0 {
		values["path-cpu"] = values["cpu"] * (1 - writers/known)
	}
}

// tables are the medians of the blocks, with the ratio to the floor.
func (r *results) tables() string {
	type key struct {
		sidecars         int
		scenario, server string
	}
	groups := map[key][]map[string]float64{}
	var order []key
	for _, s := range r.Samples {
		k := key{s.Sidecars, s.Scenario, s.Server}
		if groups[k] == nil {
			order = append(order, k)
		}
		values := maps.Clone(s.Values)
		path(values)
		groups[k] = append(groups[k], values)
	}
	slices.SortStableFunc(order, func(a, b key) int { return cmp.Compare(a.sidecars, b.sidecars) })
	var out strings.Builder
	for _, k := range order {
		if k.server != ownName {
			continue
		}
		own, floor := medians(groups[k]), medians(groups[key{k.sidecars, k.scenario, floorName}])
		fmt.Fprintf(&out, "%s, %d sidecars\n", k.scenario, k.sidecars)
		w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
		var titles, ours, floors, ratios []string
		for _, c := range columns() {
			v, shown := own[c.value]
			if !shown {
				continue
			}
			f, there := floor[c.value]
			text, ratio := "", ""
			if there {
				text = c.show(f)
				if c.ratio && f > 0 {
					ratio = fmt.Sprintf("%.2f", v/f)
				}
			}
			titles, ours, floors, ratios = append(titles, c.title), append(ours, c.show(v)), append(floors, text), append(ratios, ratio)
		}
		row := func(name string, cells []string) { fmt.Fprintf(w, "  %s\t%s\t\n", name, strings.Join(cells, "\t")) }
		row("", titles)
		row(ownName, ours)
		if floor != nil {
			row(floorName, floors)
			row("ratio", ratios)
		}
		_ = w.Flush()
		out.WriteString("\n")
	}
	return out.String()
}

func medians(blocks []map[string]float64) map[string]float64 {
	if len(blocks) == 0 {
		return nil
	}
	out := map[string]float64{}
	for name := range blocks[0] {
		var values []float64
		for _, b := range blocks {
			values = append(values, b[name])
		}
		slices.Sort(values)
		out[name] = values[len(values)/2]
	}
	return out
}
