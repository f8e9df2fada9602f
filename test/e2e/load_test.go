//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// load is requests that are sent all the time, and what may become of each.
type load struct {
	name    string
	from    *exec.Cmd
	request question
	// wrong says what is wrong with an answer; lost is for what is no verdict at all.
	judge func(a *answer) (wrong string, lost bool)
}

// tally is what became of a load.
type tally struct {
	sent, lost int
	wrong      []string
	example    string // of what was lost
	ended      error  // why the client ended, if not because it was told to
}

const loadInterval = 50 * time.Millisecond

// under runs something while loads are sent, and judges every answer.
func (s *suite) under(t *testing.T, ctx context.Context, loads []load, run func()) map[string]*tally {
	t.Helper()
	stop := make(chan struct{})
	results := make([]*tally, len(loads))
	finished := make(chan int)
	for i, l := range loads {
		st, err := startStream(l.from)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			tick := time.NewTicker(loadInterval)
			defer tick.Stop()
			defer func() { _ = st.input.Close() }()
			for n := 0; ; n++ {
				q := l.request
				q.ID = fmt.Sprint(n)
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				case <-tick.C:
					if st.send(q) != nil {
						return
					}
				}
			}
		}()
		go func() {
			results[i] = st.tally(l.judge)
			finished <- i
		}()
	}
	run()
	close(stop)
	out := map[string]*tally{}
	for range loads {
		i := <-finished
		out[loads[i].name] = results[i]
	}
	for name, r := range out {
		t.Logf("%s: %d requests, %d lost (%s), %d wrong", name, r.sent, r.lost, r.example, len(r.wrong))
		if len(r.wrong) > 0 {
			t.Errorf("%s: %d of %d are wrong: %.1000q", name, len(r.wrong), r.sent, r.wrong)
		}
		if r.sent == 0 || r.ended != nil {
			t.Errorf("%s: %d requests were sent, and the client ended with: %v", name, r.sent, r.ended)
		}
	}
	return out
}

func (st *stream) tally(judge func(*answer) (string, bool)) *tally {
	r := &tally{}
	for a := range st.answers {
		r.sent++
		wrong, lost := judge(a)
		if wrong != "" {
			r.wrong = append(r.wrong, wrong)
		}
		if lost {
			r.lost++
			r.example = a.String()
		}
	}
	r.ended = <-st.done
	return r
}

// neverDenied is for what is allowed.
func neverDenied(a *answer) (wrong string, lost bool) {
	switch a.outcome() {
	case served:
		return "", a.Status >= 500
	case denied:
		if a.Failure == "cut" {
			return "", true
		}
		return a.String(), false
	default:
		return "", true
	}
}

// neverServed is for what is not allowed.
func neverServed(a *answer) (wrong string, lost bool) {
	if a.outcome() == served {
		return a.String(), false
	}
	return "", false
}

// wholePage is for the page, which says itself which part it did not get, and why. A part that times out was stopped by the kernel. One that is gone for a moment
// (503: its application has ended, and its sidecar has not) is no verdict.
func wholePage(a *answer) (wrong string, lost bool) {
	wrong, lost = neverDenied(a)
	for _, sign := range []string{"(403, decided by the sidecar", "timed out"} {
		if at := strings.Index(a.Body, sign); at >= 0 {
			return "the page lacks a part: " + a.Body[at:min(len(a.Body), at+80)], false
		}
	}
	return wrong, lost || strings.Contains(a.Body, "unavailable")
}

// rollout replaces every pod of bookinfo while somebody reads the page and somebody tries what is forbidden.
func (s *suite) rollout(t *testing.T, ctx context.Context) {
	outsider := s.outsider(t, ctx)
	results := s.under(t, ctx, []load{
		{"the page", s.askCommand(ctx, outsider), question{URL: pageURL}, wholePage},
		{"a stranger's request to details", s.askCommand(ctx, outsider), question{URL: "http://details." + bookinfo + ":9080/details/0"}, neverServed},
		{"a stranger's request to ratings", s.askCommand(ctx, outsider), question{Method: "POST", URL: "http://ratings." + bookinfo + ":9080/ratings/0", Body: "{}"}, neverServed},
	}, func() {
		s.kubectl(t, ctx, "-n", bookinfo, "rollout", "restart", "deployment")
		for _, name := range partNames() {
			s.kubectl(t, ctx, "-n", bookinfo, "rollout", "status", "deployment/"+name, "--timeout=4m")
		}
	})
	s.measured(t, "a rollout of everything under load: %d pages read, %d of them incomplete or lost for want of a connection, none for a wrong verdict", results["the page"].sent, results["the page"].lost)
	s.enforced(t, ctx)
	s.holds(t, ctx, byBothLayers)
}

const manyNamespace = "pilot-lite-e2e-many"

// manyPods measures how fast pods start with a sidecar.
func (s *suite) manyPods(t *testing.T, ctx context.Context) {
	const count = 20
	t.Cleanup(func() {
		_, _ = s.try(context.WithoutCancel(ctx), "", "delete", "namespace", manyNamespace, "--ignore-not-found", "--wait=false")
	})
	s.apply(t, ctx, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s, labels: {policy.pilot-lite.io/inject: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: many, namespace: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
      - name: app
        image: %[3]s
        args: [--role=details]
        ports: [{name: http, containerPort: 9080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
`, manyNamespace, count, s.images.bookinfo))
	began := time.Now()
	s.waitReady(t, ctx, manyNamespace, "app=many", count)
	took := time.Since(began)
	s.measured(t, "%d injected pods are ready after %s: %.0f a minute", count, took.Round(100*time.Millisecond), count/took.Minutes())
	s.memory(t, ctx)
}

// summary is what the kubelet says of its pods.
type summary struct {
	Pods []struct {
		PodRef     struct{ Name, Namespace string }
		Containers []struct {
			Name   string
			Memory struct{ RSSBytes, WorkingSetBytes uint64 }
		}
	}
}

// memory measures what the control plane and the sidecars take.
func (s *suite) memory(t *testing.T, ctx context.Context) {
	t.Helper()
	type use struct{ rss, working uint64 }
	byName := map[string][]use{}
	for _, node := range s.nodes(t, ctx) {
		text, err := s.try(ctx, "", "get", "--raw", "/api/v1/nodes/"+node.Name+"/proxy/stats/summary")
		if err != nil {
			t.Logf("no memory of node %s: %v", node.Name, err)
			continue
		}
		var read summary
		if err := json.Unmarshal([]byte(text), &read); err != nil {
			t.Errorf("the summary of node %s: %v", node.Name, err)
		}
		for _, p := range read.Pods {
			for _, c := range p.Containers {
				if c.Memory.RSSBytes > 0 && (c.Name == "pilot-lite-proxy" || c.Name == "pilot-lite" && p.PodRef.Namespace == system) {
					byName[c.Name] = append(byName[c.Name], use{c.Memory.RSSBytes, c.Memory.WorkingSetBytes})
				}
			}
		}
	}
	const mib = 1 << 20
	for name, uses := range byName {
		var sum, most use
		for _, u := range uses {
			sum.rss, sum.working = sum.rss+u.rss, sum.working+u.working
			most.rss, most.working = max(most.rss, u.rss), max(most.working, u.working)
		}
		n := uint64(len(uses))
		s.measured(t, "memory of %d %s, average and most: RSS %d and %d MiB, working set %d and %d MiB", n, name, sum.rss/n/mib, most.rss/mib, sum.working/n/mib, most.working/mib)
	}
}

func (s *suite) nodes(t *testing.T, ctx context.Context) []corev1.Node {
	t.Helper()
	list, err := s.CoreV1().Nodes().List(ctx, listAll())
	if err != nil {
		t.Fatalf("list the nodes: %v", err)
	}
	return list.Items
}
