//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo/graph"
)

// TestCluster is one story: the steps build on each other, and what a later one needs an earlier one left. The first ones must succeed.
func TestCluster(t *testing.T) {
	s := newSuite(t)
	t.Cleanup(func() {
		for _, fact := range s.facts {
			t.Log(fact)
		}
	})
	for _, must := range []struct {
		name  string
		limit time.Duration
		run   func(*testing.T, context.Context)
	}{
		{"the cluster enforces NetworkPolicies", 3 * time.Minute, s.clusterEnforces},
		{"install", 4 * time.Minute, s.install},
		{"protect bookinfo", 6 * time.Minute, s.protect},
		{"every pair of workloads, every request", 2 * time.Minute, s.everyPair},
	} {
		if !s.step(t, must.name, must.limit, must.run) {
			s.dump(t)
			t.FailNow()
		}
	}
	for _, each := range []struct {
		name  string
		limit time.Duration
		run   func(*testing.T, context.Context)
	}{
		{"the documentation's diagnosis", time.Minute, func(t *testing.T, ctx context.Context) { s.follow(t, ctx, "When a policy is not enforced") }},
		{"scrapers may read metrics", time.Minute, s.scrapers},
		{"an edit is live when its status says so", 3 * time.Minute, s.edits},
		{"a deleted policy opens what it alone shut", 2 * time.Minute, s.deletes},
		{"companions are put back", 2 * time.Minute, s.companionsArePutBack},
		{"a pod without sidecar is shut, and told of", 3 * time.Minute, s.withoutSidecar},
		{"the companions alone", 3 * time.Minute, s.companionsAlone},
		{"the sidecars alone", 6 * time.Minute, s.sidecarsAlone},
		{"the kubelet's probes under policies that deny everything", 5 * time.Minute, s.probes},
		{"what would void the sidecar is refused", time.Minute, s.refusals},
		{"a rollout under load", 6 * time.Minute, s.rollout},
		{"an address that is used again", 3 * time.Minute, s.reusedAddress},
		{"many pods start", 5 * time.Minute, s.manyPods},
		{"the control plane is killed, and comes back", 5 * time.Minute, s.controlPlaneKilled},
		{"the leader is killed", 4 * time.Minute, s.leaderKilled},
		{"the API server is away for a minute", 6 * time.Minute, s.apiServerAway},
		{"everything starts at once", 8 * time.Minute, s.coldStart},
		{"upgrade", 6 * time.Minute, s.upgrade},
		{"uninstall", 6 * time.Minute, s.uninstall},
	} {
		if !s.step(t, each.name, each.limit, each.run) {
			s.dump(t)
		}
	}
}

// dump shows what the control plane says, where a step failed.
func (s *suite) dump(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"-n", bookinfo, "get", "l7p", "-o", "wide"},
		{"-n", system, "logs", "-l", "app.kubernetes.io/name=pilot-lite", "--tail=40", "--prefix"},
		{"get", "events", "-A", "--field-selector=type=Warning"},
		{"get", "endpointslices", "-A"},
	} {
		out, err := s.try(ctx, "", args...)
		t.Logf("$ kubectl %s\n%s%s", strings.Join(args, " "), tail(out), failed(err))
	}
	if s.lab == "" {
		return
	}
	for _, name := range []string{"kube-controller-manager", "kube-proxy"} { // whose faults look like ours
		text, err := os.ReadFile(filepath.Join(s.lab, "log", name+".log"))
		t.Logf("the end of %s's log:\n%s%s", name, tail(string(text)), failed(err))
	}
}

func tail(text string) string {
	const most = 12000
	return text[max(0, len(text)-most):]
}

func failed(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// clusterEnforces proves with a plain NetworkPolicy that there is a fence at all: on a cluster without one, half of what follows would be theatre.
func (s *suite) clusterEnforces(t *testing.T, ctx context.Context) {
	const namespace = "pilot-lite-e2e-netpol"
	t.Cleanup(func() {
		_, _ = s.try(context.WithoutCancel(ctx), "", "delete", "namespace", namespace, "--ignore-not-found", "--wait=false")
	})
	s.apply(t, ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+namespace+"}\n---"+
		s.plainPod(namespace, "client", "{app: client}")+"---"+s.plainPod(namespace, "server", "{app: server}"))
	s.waitReady(t, ctx, namespace, "app in (client,server)", 2)
	server := s.pods(t, ctx, namespace, "app=server")[0]
	client := asker{namespace, "client", "app"}
	get := question{URL: "http://" + server.Status.PodIP + ":9080/details/0"}
	s.comes(t, ctx, client, get, served)
	s.apply(t, ctx, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: `+namespace+`}
spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}
`)
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		got, err := s.one(limited, client, get)
		if err == nil && got.outcome() != served {
			return
		}
		if limited.Err() != nil {
			t.Fatal("this cluster does not enforce NetworkPolicies: a pod that a NetworkPolicy shuts was still reached after 30 s. " +
				"pilot-lite's second layer needs a network plugin that does (Calico, Cilium, kube-router, ...)")
		}
	}
}

func (s *suite) install(t *testing.T, ctx context.Context) {
	s.follow(t, ctx, "Install")
	s.waitReady(t, ctx, system, "app.kubernetes.io/name=pilot-lite", 2)
}

// protect follows the documentation; beside bookinfo stands a pod that nobody knows.
func (s *suite) protect(t *testing.T, ctx context.Context) {
	s.apply(t, ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+outside+"}\n---"+s.plainPod(outside, "outsider", "{app: outsider}"))
	s.follow(t, ctx, "Protect a namespace")
	for _, p := range s.parts(t, ctx) {
		if p.pod.Labels["policy.pilot-lite.io/proxy"] != "injected" {
			t.Errorf("pod %s has no sidecar", p.pod.Name)
		}
	}
}

// scrapers follows the documentation, as for a Prometheus that does not run.
func (s *suite) scrapers(t *testing.T, ctx context.Context) {
	s.apply(t, ctx, "{apiVersion: v1, kind: Namespace, metadata: {name: monitoring}}\n---\n{apiVersion: v1, kind: ServiceAccount, metadata: {name: prometheus, namespace: monitoring}}")
	t.Cleanup(func() {
		_, _ = s.try(context.WithoutCancel(ctx), "", "delete", "--wait=false", "namespace/monitoring", "clusterrolebinding/pilot-lite-metrics")
	})
	s.follow(t, ctx, "Metrics")
	if got := s.kubectl(t, ctx, "auth", "can-i", "get", "/metrics", "--as=system:serviceaccount:monitoring:prometheus"); !strings.HasPrefix(got, "yes") {
		t.Errorf("may it read metrics? %s", got)
	}
}

func (s *suite) everyPair(t *testing.T, ctx context.Context) {
	s.kubectl(t, ctx, "-n", bookinfo, "wait", "--for=condition=LayersAgree", "--timeout=30s", "l7p", "--all")
	s.holds(t, ctx, byBothLayers)
	// And by names, through all parts, as a person sees it.
	s.pageIsWhole(t, ctx)
}

// pageIsWhole asks for the page from outside: it needs every part, and names what it did not get.
func (s *suite) pageIsWhole(t *testing.T, ctx context.Context) {
	t.Helper()
	outsider := s.outsider(t, ctx)
	eventually(t, ctx, "the page is whole", func() error {
		got, err := s.one(ctx, outsider, question{URL: pageURL})
		switch {
		case err != nil:
			return err
		case got.outcome() != served || got.Status != 200:
			return fmt.Errorf("%s", got)
		case strings.Contains(got.Body, "unavailable"):
			return errors.New("a part is unavailable: " + got.Body)
		}
		return nil
	})
}

const pageURL = "http://ingress." + bookinfo + "/productpage"

// who is a shorthand: the parts, and the pod that nobody knows.
func (s *suite) who(t *testing.T, ctx context.Context) (parts map[string]*part, outsider asker) {
	t.Helper()
	return s.parts(t, ctx), s.outsider(t, ctx)
}

// readsDetails is what productpage may ask of details, and nobody else.
func readsDetails(parts map[string]*part) question {
	return question{Method: "GET", URL: parts["details-v1"].url(9080, "/details/0")}
}

// writesDetails is what nobody may.
func writesDetails(parts map[string]*part) question {
	return question{Method: "POST", URL: parts["details-v1"].url(9080, "/details/0")}
}

var _ = graph.Outsider
