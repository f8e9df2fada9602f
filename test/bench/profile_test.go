package bench_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// parts are what the control plane's processor time goes to, by the functions that are on the stack; the first that is found counts.
func parts() []struct{ name, function string } {
	const own = "github.com/pilot-lite/pilot-lite/pkg/"
	return []struct{ name, function string }{
		{"profile", "runtime/pprof."},
		{"profile", "net/http/pprof."},
		{"profile", "prometheus/promhttp"},
		{"companions", own + "kube/companion."},
		{"companions", own + "translate/netpol."},
		{"companions", "writers"},
		{"status", own + "kube/policystatus."},
		{"status", own + "status."},
		{"status", own + "report."},
		{"status", own + "eval"},
		{"status", "clusterServer).tell"},
		{"status", own + "xds.(*Follower"},
		{"status", own + "xds.(*reports"},
		{"leader", own + "kube/leader."},
		{"xds", own + "xds."},
		{"xds", "google.golang.org/grpc"},
		{"xds", "go-control-plane"},
		{"rebuild", own + "controlplane."},
		{"rebuild", own + "translate"},
		{"rebuild", own + "model."},
		{"watch", own + "kube."},
		{"watch", own + "convert."},
		{"watch", "client-go/tools/cache."},
		{"watch", "apimachinery/pkg/watch."},
		{"api-client", "net/http"},
		{"api-client", "client-go"},
		{"api-client", "golang.org/x/net/http2"},
		{"collector", "runtime.gcBgMarkWorker"},
		{"collector", "runtime.bgsweep"},
		{"collector", "runtime.bgscavenge"},
	}
}

// startProfile profiles the server from its return on for some seconds; the returned function waits for the end, keeps the profiles of time and memory with the results, and tells each part's
// share of the time. keepHeap is asked for last, since it has the server collect all that it does not use.
func (s *server) startProfile(name string, seconds int) func() map[string]float64 {
	s.t.Helper()
	before := s.profile("allocs")
	var times *profile.Profile
	var waiting sync.WaitGroup
	waiting.Go(func() { times = s.profile(fmt.Sprintf("profile?seconds=%d", seconds)) })
	// The server says nothing before the profile's end, so that nothing can be waited for: what begins early is not profiled, and counts all the same.
	const begins = 200 * time.Millisecond
	time.Sleep(begins)
	return func() map[string]float64 {
		s.t.Helper()
		waiting.Wait()
		// The difference is taken here: the server would spend as much on it as on an edit.
		after := s.profile("allocs")
		before.Scale(-1)
		allocs, err := profile.Merge([]*profile.Profile{before, after})
		if err != nil {
			s.t.Fatal(err)
		}
		keepProfile(s.t, name+".profile", times)
		keepProfile(s.t, name+".allocs", allocs)
		return shares(times)
	}
}

// profile asks the server for a profile.
func (s *server) profile(of string) *profile.Profile {
	s.t.Helper()
	_, text, err := s.ask("/debug/pprof/" + of)
	if err != nil {
		s.t.Errorf("profile: %v", err)
		return &profile.Profile{}
	}
	p, err := profile.Parse(strings.NewReader(text))
	if err != nil {
		s.t.Errorf("profile: %v", err)
		return &profile.Profile{}
	}
	return p
}

func keepProfile(t testing.TB, name string, p *profile.Profile) {
	t.Helper()
	f, err := os.Create(filepath.Join(resultsFolder(t), name))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Write(f), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// keepHeap keeps the profile of what the server has in memory.
func (s *server) keepHeap(name string) {
	s.t.Helper()
	_, heap, err := s.ask("/debug/pprof/heap?gc=1")
	if err := errors.Join(err, os.WriteFile(filepath.Join(resultsFolder(s.t), name+".heap"), []byte(heap), 0o600)); err != nil {
		s.t.Fatal(err)
	}
}

func shares(p *profile.Profile) map[string]float64 {
	out, sum := map[string]float64{}, 0.0
	for _, sample := range p.Sample {
		weight := float64(sample.Value[len(sample.Value)-1])
		sum += weight
		out[partOf(sample)] += weight
	}
	for name := range out {
		out[name] /= sum
	}
	return out
}

func partOf(sample *profile.Sample) string {
	for _, part := range parts() {
		for _, location := range sample.Location {
			for _, line := range location.Line {
				if strings.Contains(line.Function.Name, part.function) {
					return part.name
				}
			}
		}
	}
	return "scheduler"
}
