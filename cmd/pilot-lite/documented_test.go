package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/identity"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/kube/companion"
	"github.com/pilot-lite/pilot-lite/pkg/kube/leader"
	"github.com/pilot-lite/pilot-lite/pkg/kube/policystatus"
	"github.com/pilot-lite/pilot-lite/pkg/webhook"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// The reference's table has every metric that a server registers, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	makers := []func(prometheus.Registerer){
		func(r prometheus.Registerer) { xds.NewMetrics(r) }, func(r prometheus.Registerer) { controlplane.NewMetrics(r) }, func(r prometheus.Registerer) { kube.NewMetrics(r) },
		func(r prometheus.Registerer) { companion.NewMetrics(r) }, func(r prometheus.Registerer) { leader.NewMetrics(r) },
		func(r prometheus.Registerer) { policystatus.NewMetrics(r) }, func(r prometheus.Registerer) { identity.NewMetrics(r) }, func(r prometheus.Registerer) { webhook.NewMetrics(r) },
	}
	if there := packagesWithMetrics(t); len(there) != len(makers) {
		t.Errorf("%d packages make metrics, and %d are asked: %v", len(there), len(makers), there)
	}
	registry := prometheus.NewRegistry()
	countProblems(registry, nil)
	for _, register := range makers {
		register(registry)
	}
	const most = 1000
	descriptions := make(chan *prometheus.Desc, most)
	registry.Describe(descriptions)
	close(descriptions)
	var registered []string
	for d := range descriptions {
		name, _, _ := strings.Cut(strings.TrimPrefix(d.String(), `Desc{fqName: "`), `"`)
		registered = append(registered, name)
	}
	slices.Sort(registered)
	text, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			documented = append(documented, regexp.MustCompile(`pilot_lite_\w+`).FindAllString(cells[1], -1)...)
		}
	}
	slices.Sort(documented)
	if diff := cmp.Diff(registered, documented); diff != "" {
		t.Errorf("docs/reference.md (-registered +documented):\n%s", diff)
	}
}

// The reference's table of commands has every command and every flag, and no other.
func TestFlagsAreDocumented(t *testing.T) {
	t.Parallel()
	has := map[string][]string{}
	for _, c := range newRootCmd(streams{}).Commands() {
		flags := []string{}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				flags = append(flags, "--"+f.Name)
			}
		})
		has[c.Name()] = flags
	}
	documented := map[string][]string{}
	word := regexp.MustCompile("`([-a-z0-9]+)`")
	for line := range strings.Lines(section(t, "../../docs/reference.md", "Commands and flags")) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			continue
		}
		flags := []string{}
		for _, f := range word.FindAllStringSubmatch(cells[2], -1) {
			if strings.HasPrefix(f[1], "--") {
				flags = append(flags, f[1])
			}
		}
		slices.Sort(flags)
		for _, c := range word.FindAllStringSubmatch(cells[1], -1) {
			documented[c[1]] = flags
		}
	}
	if diff := cmp.Diff(has, documented); diff != "" {
		t.Errorf("docs/reference.md (-there +documented):\n%s", diff)
	}
}

// section is what stands in a document under a heading of the second level.
func section(t *testing.T, path, heading string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, out, _ := strings.Cut(string(text), "\n## "+heading+"\n")
	out, _, _ = strings.Cut(out, "\n## ")
	return out
}

// What the README shows of the program can be typed in a fresh clone, and none of it is wrong usage. The two that go on, or ask one that does, have scripts, and one is shortened.
func TestREADMECanBeTyped(t *testing.T) {
	t.Parallel()
	codes := map[string][]int{}
	for line := range strings.Lines(section(t, "../../README.md", "Use it")) {
		typed, _, _ := strings.Cut(line, " #")
		_, command, shown := strings.Cut(typed, "bin/pilot-lite ")
		name, _, _ := strings.Cut(command, " ")
		if !shown || slices.Contains([]string{"serve", "status", "inject"}, name) {
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(typed, "bin/pilot-lite", "pilot-lite")) // TestMain puts it into PATH
		cmd.Dir = "../.."
		out, err := cmd.CombinedOutput()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			t.Fatal(err)
		}
		codes[name] = append(codes[name], cmd.ProcessState.ExitCode())
		if len(out) == 0 {
			t.Errorf("%s: prints nothing", typed)
		}
	}
	want := map[string][]int{
		"validate": {exitFine}, "lint": {exitFine}, "check": {exitFinding, exitFine}, "diff": {exitFinding}, "translate": {exitFine}, "bootstrap": {exitFine},
	}
	if diff := cmp.Diff(want, codes); diff != "" {
		t.Errorf("exit codes (-want +got):\n%s", diff)
	}
}

// The example's alerts ask for metrics that the reference describes.
func TestAlertsAskForDocumentedMetrics(t *testing.T) {
	t.Parallel()
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	reference := read("../../docs/reference.md")
	asked := regexp.MustCompile(`\b(?:pilot_lite|envoy)_\w+`).FindAllString(read("../../examples/prometheus/alerts.yaml"), -1)
	if len(asked) == 0 {
		t.Error("no metric is asked for")
	}
	for _, name := range asked {
		if !strings.Contains(reference, "`"+name+"`") {
			t.Errorf("%s is in no table of docs/reference.md", name)
		}
	}
}

// packagesWithMetrics are the folders whose packages make metrics.
func packagesWithMetrics(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir("../../pkg", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "\nfunc NewMetrics(") {
			out = append(out, filepath.Dir(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
