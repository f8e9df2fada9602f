package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
)

// output prints for people. Colours on a terminal only.
type output struct {
	w                             io.Writer
	bold, dim, green, red, normal string
}

func newOutput(f *os.File) *output {
	o := &output{w: f}
	info, err := f.Stat()
	if err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		o.bold, o.dim, o.green, o.red, o.normal = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m"
	}
	return o
}

func (o *output) head(format string, args ...any) {
	fmt.Fprintf(o.w, "\n%s%s%s\n", o.bold, fmt.Sprintf(format, args...), o.normal)
}

func (o *output) text(text string) { fmt.Fprintln(o.w, strings.TrimRight(text, "\n")) }

func (o *output) check(good bool, format string, args ...any) {
	mark := o.green + "ok   " + o.normal
	if !good {
		mark = o.red + "FAIL " + o.normal
	}
	fmt.Fprintf(o.w, "  %s%s\n", mark, fmt.Sprintf(format, args...))
}

// world prints who is where.
func (o *output) world(w *world) {
	t := tabwriter.NewWriter(o.w, 0, 0, 2, ' ', 0)
	for _, each := range w.workloads {
		var ports []string
		for _, p := range each.ports() {
			listen := each.listen(p)
			if listen.Port() == p {
				ports = append(ports, strconv.Itoa(int(p)))
			} else {
				ports = append(ports, fmt.Sprintf("%d (at %d)", p, listen.Port()))
			}
		}
		fmt.Fprintf(t, "  %s\t%s\tport %s\n", each.name, each.address, strings.Join(ports, ", "))
	}
	fmt.Fprintf(t, "  %s\t%s\tnobody that the policies know\n", outsider, w.outsider)
	_ = t.Flush()
}

// requests prints a line for all callers that got the same.
func (o *output) requests(all []*sent) {
	wrong := 0
	callers := map[string]bool{}
	for _, s := range all {
		callers[s.caller] = true
		if !s.good() {
			wrong++
		}
	}
	o.head("%d requests between all pairs, each from the caller's own address straight to the callee's sidecar", len(all))
	const format = "%s%-5s%s %-14s %-30s %-22s %-7s %-8s %s\n"
	fmt.Fprintf(o.w, "  "+format, o.dim, "", "", "CALLEE", "REQUEST", "FROM", "VERDICT", "EXPECTED", "DECIDED BY"+o.normal)
	var last *workload
	for _, g := range grouped(all) {
		callee := ""
		if g.callee != last {
			callee, last = g.callee.name, g.callee
		}
		mark, color := "ok", o.green
		if !g.good {
			mark, color = "FAIL", o.red
		}
		decider := g.got.Decider
		switch {
		case !g.good && g.got.Decider != g.expected.Decider:
			decider += ", expected " + g.expected.Decider
		case decider == "":
			decider = "(of connections, Envoy logs only what denied)"
		}
		fmt.Fprintf(o.w, "  "+format, color, mark, o.normal, callee, g.request, g.from(len(callers)-1), g.got, g.expected, decider)
	}
	o.check(wrong == 0, "%d of %d as expected", len(all)-wrong, len(all))
}

// keep says what is left running.
func (o *output) keep(w *world) {
	ingress, err := w.named("ingress")
	if err != nil {
		return
	}
	o.head("It stays (KEEP=1). Ctrl-C ends everything.")
	t := tabwriter.NewWriter(o.w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  the page\thttp://%s/productpage\n", ingress.listen(80))
	fmt.Fprintf(t, "  with TLS\thttps://%s/productpage\n", ingress.listen(443))
	fmt.Fprintf(t, "  the policies, to edit\t%s/yaml/policies\n", w.dir)
	fmt.Fprintf(t, "  the companions\t%s\n", w.companionsFile())
	fmt.Fprintf(t, "  the access logs\t%s/log/envoy-*.out\n", w.dir)
	fmt.Fprintf(t, "  the status\t%s status --address unix:%s\n", w.pilotLite, w.admin)
	_ = t.Flush()
}
