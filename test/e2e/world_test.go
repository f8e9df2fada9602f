//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo/graph"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// part is a workload of bookinfo, in the table's words.
type part struct {
	name, app string
	pod       corev1.Pod
}

func (p *part) asker() asker { return asker{p.pod.Namespace, p.pod.Name, p.app} }

func (p *part) address(port uint16) string {
	return net.JoinHostPort(p.pod.Status.PodIP, strconv.Itoa(int(port)))
}

func (p *part) url(port uint16, path string) string { return "http://" + p.address(port) + path }

// partNames are the Deployments of bookinfo.
func partNames() []string {
	return []string{"ingress", "productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1"}
}

// parts are bookinfo's pods by the names of their Deployments, all ready.
func (s *suite) parts(t *testing.T, ctx context.Context) map[string]*part {
	t.Helper()
	out := map[string]*part{}
	for _, pod := range s.waitReady(t, ctx, bookinfo, "app in (ingress,productpage,details,reviews,ratings)", len(partNames())) {
		app := pod.Labels["app"]
		name := app
		if v := pod.Labels["version"]; v != "" {
			name += "-" + v
		}
		out[name] = &part{name, app, pod}
	}
	for _, name := range partNames() {
		if out[name] == nil {
			t.Fatalf("no pod of %s", name)
		}
	}
	return out
}

// outsider is the pod that nobody knows.
func (s *suite) outsider(t *testing.T, ctx context.Context) asker {
	t.Helper()
	pods := s.waitReady(t, ctx, outside, "app=outsider", 1)
	return asker{outside, pods[0].Name, "app"}
}

// plainPod is a pod of bookinfo's program, with labels.
func (s *suite) plainPod(namespace, name, labels string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: %s}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    image: %s
    args: [--role=details]
    ports: [{name: http, containerPort: 9080}]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`, name, namespace, labels, s.images.bookinfo)
}

// expectation says which outcome a caller's request has.
type expectation func(from string, to *part, r *graph.Request) outcome

// byBothLayers: what the graph does not connect the kernel stops; the rest the sidecar decides.
func byBothLayers(from string, to *part, r *graph.Request) outcome {
	if !graph.Connections()[graph.Connection{From: from, To: to.name, Port: r.Port}] {
		return stopped
	}
	return bySidecars(from, to, r)
}

// bySidecars is what the callee's sidecar says, which knows nothing of its caller's egress.
func bySidecars(from string, _ *part, r *graph.Request) outcome {
	if r.Expected(from).Allowed {
		return served
	}
	return denied
}

// sentRequest is a request of the table, with its caller and callee.
type sentRequest struct {
	from    string
	to      *part
	request *graph.Request
}

func (q *sentRequest) String() string {
	return fmt.Sprintf("%s to %s:%d from %s", q.request, q.to.name, q.request.Port, q.from)
}

// sendTable sends every request of the table from everybody to every pod that it is meant for, and returns those whose outcome is not the expected one.
func (s *suite) sendTable(ctx context.Context, parts map[string]*part, outsider asker, want expectation) (wrong []string, opened []string, total int, err error) {
	callers := map[string]asker{graph.Outsider: outsider}
	for name, p := range parts {
		callers[name] = p.asker()
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	for name, from := range callers {
		group.Go(func() {
			sent, questions := table(name, parts)
			answers, failed := s.ask(ctx, from, questions...)
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				err = errors.Join(err, failed)
				return
			}
			for id, q := range sent {
				total++
				got, expected := answers[id], want(name, q.to, q.request)
				if got.outcome() == expected {
					continue
				}
				line := fmt.Sprintf("%s: %s, want %s", q, got, expected)
				wrong = append(wrong, line)
				if got.outcome() == served {
					opened = append(opened, line)
				}
			}
		})
	}
	group.Wait()
	slices.Sort(wrong)
	return wrong, opened, total, err
}

// table is what one caller asks of everybody else.
func table(from string, parts map[string]*part) (map[string]*sentRequest, []question) {
	sent := map[string]*sentRequest{}
	var questions []question
	requests := graph.Requests()
	for _, to := range parts {
		for i := range requests {
			r := &requests[i]
			if r.App != to.app || from == to.name {
				continue
			}
			scheme := "http"
			if r.TLS {
				scheme = "https"
			}
			id := strconv.Itoa(len(questions))
			sent[id] = &sentRequest{from, to, r}
			questions = append(questions, question{ID: id, Method: r.Method, URL: scheme + "://" + to.address(r.Port) + r.Path, Header: r.Header, Body: r.Body()})
		}
	}
	return sent, questions
}

// holds sends the whole table until every outcome is the expected one. What is wrongly served fails the test at once: a status said that the sidecars
// enforce, and the kernel may lag behind (its state is in no API) without anything being open.
func (s *suite) holds(t *testing.T, ctx context.Context, want expectation) {
	t.Helper()
	parts, outsider := s.parts(t, ctx), s.outsider(t, ctx)
	total := 0
	settled := eventually(t, ctx, "every verdict is the expected one", func() error {
		wrong, opened, n, err := s.sendTable(ctx, parts, outsider, want)
		total = n
		switch {
		case err != nil:
			return err
		case len(opened) > 0:
			t.Fatalf("wrongly served: %q", opened)
		case len(wrong) > 0:
			return fmt.Errorf("%d of %d are wrong: %.2000q", len(wrong), n, wrong)
		}
		return nil
	})
	t.Logf("%d requests have the expected outcome, after %s", total, settled.Round(time.Second))
}

// policies are bookinfo's policies by name.
func (s *suite) policy(ctx context.Context, namespace, name string) (*v1alpha1.L7Policy, error) {
	u, err := s.dynamic.Resource(v1alpha1.SchemeGroupVersion().WithResource("l7policies")).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read policy %s: %w", name, err)
	}
	text, err := u.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("read policy %s: %w", name, err)
	}
	var p v1alpha1.L7Policy
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("read policy %s: %w", name, err)
	}
	return &p, nil
}

// condition is a policy's condition, if it is about the present generation.
func condition(p *v1alpha1.L7Policy, kind string) *metav1.Condition {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == kind && c.ObservedGeneration == p.Generation {
			return c
		}
	}
	return nil
}

// says waits until a policy's Enforced condition has a status and a reason.
func (s *suite) says(t *testing.T, ctx context.Context, namespace, name string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	eventually(t, ctx, fmt.Sprintf("policy %s says Enforced=%s (%s)", name, status, reason), func() error {
		p, err := s.policy(ctx, namespace, name)
		if err != nil {
			return err
		}
		c := condition(p, v1alpha1.ConditionEnforced)
		if c == nil {
			return fmt.Errorf("nothing about generation %d: %+v", p.Generation, p.Status)
		}
		if c.Status != status || reason != "" && c.Reason != reason {
			return fmt.Errorf("it says %s (%s: %s)", c.Status, c.Reason, c.Message)
		}
		return nil
	})
}

// enforced waits, with kubectl as users do, until policies are.
func (s *suite) enforced(t *testing.T, ctx context.Context, policies ...string) {
	t.Helper()
	args := []string{"-n", bookinfo, "wait", "--for=condition=Enforced", "--timeout=60s"}
	if len(policies) == 0 {
		args = append(args, "l7p", "--all")
	}
	for _, p := range policies {
		args = append(args, "l7p/"+p)
	}
	s.kubectl(t, ctx, args...)
}
