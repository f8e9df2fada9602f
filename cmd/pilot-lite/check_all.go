package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/check"
)

const (
	// terminalWidth is how wide a matrix may be; a wider one is a list.
	terminalWidth = 100
	// cellWidth is that of a column's number and a space.
	cellWidth = 3
	// mostNames is how many callers a line of a list names.
	mostNames = 4
)

// mark is what stands in a cell.
func mark(a check.Access) string {
	switch a {
	case check.Open:
		return "A"
	case check.Requests:
		return "r"
	case check.OnlyL4:
		return "4"
	case check.OnlyL7:
		return "7"
	case check.NoL7:
		return "K"
	case check.Shut:
	}
	return "."
}

// meaning says what an access is.
func meaning(a check.Access) string {
	switch a {
	case check.Open:
		return "everything"
	case check.Requests:
		return "the requests that rules let through"
	case check.OnlyL4:
		return "nothing: L3/4 would let it pass, the sidecar refuses"
	case check.OnlyL7:
		return "nothing: the sidecar would allow some, L3/4 shuts it"
	case check.NoL7:
		return "everything, and no sidecar looks"
	case check.Shut:
	}
	return "nothing: both layers shut it"
}

func accesses() []check.Access {
	return []check.Access{check.Open, check.Requests, check.NoL7, check.OnlyL4, check.OnlyL7, check.Shut}
}

func printMatrix(w io.Writer, m *check.Matrix) error {
	p := &printer{w: w}
	if len(m.Rows) == 0 {
		p.line("Nobody can be called: there is no workload with a port.")
		return p.err
	}
	name := len("called, by")
	for _, r := range m.Rows {
		name = max(name, len(rowName(r)))
	}
	if name+cellWidth*len(m.Callers) > terminalWidth {
		p.list(m)
		return p.err
	}
	var b strings.Builder
	for i := range m.Callers {
		fmt.Fprintf(&b, "%*d", cellWidth, i+1)
	}
	p.line("%-*s%s", name, "called, by", b.String())
	used := map[check.Access]bool{}
	for _, r := range m.Rows {
		b.Reset()
		for _, a := range r.Cells {
			fmt.Fprintf(&b, "%*s", cellWidth, mark(a))
			used[a] = true
		}
		p.line("%-*s%s", name, rowName(r), b.String())
	}
	p.line("")
	p.line("callers")
	for i, c := range m.Callers {
		p.line("%*d  %s", cellWidth, i+1, c.Name)
	}
	p.line("")
	for _, a := range accesses() {
		if used[a] {
			p.line("%*s  %s", cellWidth, mark(a), meaning(a))
		}
	}
	return p.err
}

func rowName(r check.Row) string { return r.Callee + ":" + strconv.Itoa(int(r.Port)) }

// list names the callers of each port, by how far they get.
func (p *printer) list(m *check.Matrix) {
	for _, r := range m.Rows {
		p.line("%s", rowName(r))
		by := map[check.Access][]string{}
		for i, a := range r.Cells {
			by[a] = append(by[a], m.Callers[i].Name)
		}
		for _, a := range accesses() {
			names := by[a]
			switch {
			case len(names) == 0 || a == check.Shut && len(names) < len(r.Cells): // who is on no other line
				continue
			case len(names) == len(r.Cells):
				names = []string{"everybody"}
			case len(names) > mostNames+1: // to leave one out saves nothing
				names = append(names[:mostNames:mostNames], "and "+strconv.Itoa(len(names)-mostNames)+" more")
			}
			p.line("  %s: %s", meaning(a), strings.Join(names, ", "))
		}
	}
}

// jsonRow is a port of a callee, and who gets how far: those who are shut out are left out.
type jsonRow struct {
	Callee string                    `json:"callee"`
	Port   uint16                    `json:"port"`
	Access map[check.Access][]string `json:"access"`
}

func jsonMatrix(m *check.Matrix) map[string]any {
	rows := make([]jsonRow, 0, len(m.Rows))
	for _, r := range m.Rows {
		row := jsonRow{r.Callee, r.Port, map[check.Access][]string{}}
		for i, a := range r.Cells {
			if a != check.Shut {
				row.Access[a] = append(row.Access[a], m.Callers[i].Name)
			}
		}
		rows = append(rows, row)
	}
	callers := make([]string, 0, len(m.Callers))
	for _, c := range m.Callers {
		callers = append(callers, c.Name)
	}
	return map[string]any{"callers": callers, "rows": rows}
}
