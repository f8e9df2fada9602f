//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const controlPlanePods = "app.kubernetes.io/name=pilot-lite"

func listAll() metav1.ListOptions { return metav1.ListOptions{} }

// flipped edits a policy and takes its status at its word; then it puts it back.
func (s *suite) flipped(t *testing.T, ctx context.Context) time.Duration {
	t.Helper()
	parts := s.parts(t, ctx)
	page := parts["productpage-v1"].asker()
	began := time.Now()
	s.admitted(t, ctx, detailsPolicy("POST"))
	s.enforced(t, ctx, "details")
	took := time.Since(began)
	s.must(t, ctx, page, readsDetails(parts), denied)
	s.must(t, ctx, page, writesDetails(parts), served)
	s.admitted(t, ctx, detailsPolicy("GET"))
	s.enforced(t, ctx, "details")
	s.must(t, ctx, page, readsDetails(parts), served)
	s.must(t, ctx, page, writesDetails(parts), denied)
	return took
}

// admitted applies a policy as soon as the webhook can be called: a node learns of a Service's endpoints some time after their pods are ready, and after the API server
// was away it hears once more that they were not.
func (s *suite) admitted(t *testing.T, ctx context.Context, policy string) {
	t.Helper()
	eventually(t, ctx, "a policy is admitted", func() error {
		_, err := s.try(ctx, policy, "apply", "-f", "-")
		return err
	})
}

// pairLoad is one request that productpage may send to details, and one that it may not, all the time.
func pairLoad(command func() *exec.Cmd, parts map[string]*part) []load {
	return []load{
		{"what is allowed", command(), readsDetails(parts), neverDenied},
		{"what is denied", command(), writesDetails(parts), neverServed},
	}
}

// controlPlaneKilled: verdicts need no control plane, and the one that comes back finds its way by itself.
func (s *suite) controlPlaneKilled(t *testing.T, ctx context.Context) {
	parts := s.parts(t, ctx)
	page := parts["productpage-v1"].asker()
	results := s.under(t, ctx, pairLoad(func() *exec.Cmd { return s.askCommand(ctx, page) }, parts), func() {
		began := time.Now()
		s.kubectl(t, ctx, "-n", system, "delete", "pod", "-l", controlPlanePods, "--grace-period=0", "--force")
		s.waitReady(t, ctx, system, controlPlanePods, 2)
		s.measured(t, "a killed control plane is ready again after %s", time.Since(began).Round(100*time.Millisecond))
	})
	noneLost(t, results)
	s.measured(t, "the first edit after a kill of the control plane is enforced after %s", round(s.flipped(t, ctx)))
	s.holds(t, ctx, byBothLayers)
}

func noneLost(t *testing.T, results map[string]*tally) {
	t.Helper()
	for name, r := range results {
		if r.lost > 0 {
			t.Errorf("%s: %d of %d requests were lost: %s", name, r.lost, r.sent, r.example)
		}
	}
}

// leaderKilled: another replica writes what the leader wrote.
func (s *suite) leaderKilled(t *testing.T, ctx context.Context) {
	leader := func() string {
		lease, err := s.CoordinationV1().Leases(system).Get(ctx, "pilot-lite", metav1.GetOptions{})
		if err != nil {
			t.Fatalf("read the lease: %v", err)
		}
		if lease.Spec.HolderIdentity == nil {
			return ""
		}
		return *lease.Spec.HolderIdentity
	}
	before := leader()
	if before == "" {
		t.Fatal("nobody leads")
	}
	name, _, _ := strings.Cut(before, "_")
	s.kubectl(t, ctx, "-n", system, "delete", "pod", name, "--grace-period=0", "--force")
	s.measured(t, "an edit right after the leader was killed is enforced after %s", round(s.flipped(t, ctx)))
	if after := leader(); after == before || after == "" {
		t.Errorf("the leader is %q, as before", after)
	}
	s.waitReady(t, ctx, system, controlPlanePods, 2)
}

// restarts are how often each container of a namespace was started again.
func (s *suite) restarts(t *testing.T, ctx context.Context, namespace string) map[string]int32 {
	t.Helper()
	out := map[string]int32{}
	for _, p := range s.pods(t, ctx, namespace, "") {
		for _, c := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
			out[p.Name+"/"+c.Name] = c.RestartCount
		}
	}
	return out
}

// apiServerAway stops the API server for a minute, longer than its silence is borne: nothing opens, and nothing shuts.
func (s *suite) apiServerAway(t *testing.T, ctx context.Context) {
	if s.lab == "" {
		t.Skip("it needs LAB_STATE, on the node itself, to stop the API server")
	}
	parts := s.parts(t, ctx)
	program := s.hostProgram(t, ctx)
	before := s.restarts(t, ctx, system)
	command := func() *exec.Cmd {
		return exec.CommandContext(ctx, "ip", "netns", "exec", s.networkNamespace(t, ctx, parts["productpage-v1"]), program, "ask", "--timeout", askTimeout)
	}
	results := s.under(t, ctx, pairLoad(command, parts), func() {
		start := s.stopAPIServer(t)
		select {
		case <-time.After(time.Minute + 10*time.Second):
		case <-ctx.Done():
		}
		start()
	})
	noneLost(t, results)
	eventually(t, ctx, "the API server is back", func() error {
		_, err := s.try(ctx, "", "get", "--raw", "/readyz")
		return err
	})
	began := time.Now()
	s.waitReady(t, ctx, system, controlPlanePods, 2)
	for name, n := range s.restarts(t, ctx, system) {
		// The leader ends when its lease does: it could not know whether another one leads.
		if n > before[name]+1 {
			t.Errorf("%s was restarted %d times meanwhile", name, n-before[name])
		}
	}
	s.measured(t, "after a minute without API server both replicas are ready after %s, and the first edit is enforced after %s", time.Since(began).Round(100*time.Millisecond), round(s.flipped(t, ctx)))
	s.holds(t, ctx, byBothLayers)
	s.servicesFollow(t, ctx)
	t.Logf("Kubernetes' own controllers follow the API server again %s after it is back", time.Since(began).Round(time.Second))
}

// servicesFollow waits until a new Service leads to its pods from this node: Kubernetes' own controllers, which were cut off as well, and take longer to come back than
// ours do, follow the API server again.
func (s *suite) servicesFollow(t *testing.T, ctx context.Context) {
	t.Helper()
	const name = "pilot-lite-e2e-follow"
	service, err := s.CoreV1().Services(system).Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app.kubernetes.io/name": "pilot-lite"}, Ports: []corev1.ServicePort{{Port: 15020}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.CoreV1().Services(system).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}()
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, ctx, "a new Service leads to its pods", func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(service.Spec.ClusterIP, "15020")+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// stopAPIServer kills the API server, and returns what starts it again as it was.
func (s *suite) stopAPIServer(t *testing.T) (start func()) {
	t.Helper()
	file := filepath.Join(s.lab, "pid", "kube-apiserver")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	commandLine, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || filepath.Base(program) != "kube-apiserver" {
		t.Fatalf("process %d is %s, not the API server (%v)", pid, program, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("stop the API server: %v", err)
	}
	args := strings.Split(strings.TrimRight(string(commandLine), "\x00"), "\x00")
	return func() {
		log, err := os.OpenFile(filepath.Join(s.lab, "log", "kube-apiserver.log"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = log.Close() }()
		cmd := exec.Command(program, args[1:]...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this test
		if err := cmd.Start(); err != nil {
			t.Fatalf("start the API server: %v", err)
		}
		if err := os.WriteFile(file, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o644); err != nil {
			t.Error(err)
		}
		go func() { _ = cmd.Wait() }()
	}
}

// coldStart deletes every pod at once, those that all others wait for among them.
func (s *suite) coldStart(t *testing.T, ctx context.Context) {
	gone := map[string]bool{}
	namespaces := []string{metav1.NamespaceSystem, system, bookinfo}
	for _, namespace := range namespaces {
		for _, p := range s.pods(t, ctx, namespace, "") {
			gone[string(p.UID)] = true
		}
	}
	began := time.Now()
	for _, namespace := range namespaces {
		s.kubectl(t, ctx, "-n", namespace, "delete", "pod", "--all", "--wait=false", "--grace-period=1")
	}
	eventually(t, ctx, "other pods are ready in their place", func() error {
		for _, namespace := range namespaces {
			for _, p := range s.pods(t, ctx, namespace, "") {
				if gone[string(p.UID)] || !ready(&p) {
					return fmt.Errorf("pod %s: %s", p.Name, stateOf(&p))
				}
			}
		}
		if len(s.pods(t, ctx, system, controlPlanePods)) != 2 || len(s.pods(t, ctx, bookinfo, "")) != len(partNames()) {
			return errors.New("pods are missing")
		}
		return nil
	})
	s.measured(t, "everything starts at once: ready after %s", time.Since(began).Round(100*time.Millisecond))
	for _, namespace := range namespaces[1:] {
		for name, n := range s.restarts(t, ctx, namespace) {
			if n > 0 {
				t.Errorf("%s/%s was restarted %d times", namespace, name, n)
			}
		}
	}
	s.enforced(t, ctx)
	s.holds(t, ctx, byBothLayers)
}

func (s *suite) upgrade(t *testing.T, ctx context.Context) {
	outsider := s.outsider(t, ctx)
	s.under(t, ctx, []load{{"the page", s.askCommand(ctx, outsider), question{URL: pageURL}, wholePage}}, func() { s.follow(t, ctx, "Upgrade") })
	s.enforced(t, ctx)
	s.holds(t, ctx, byBothLayers)
}

// uninstall leaves nothing behind, and pods as their authors wrote them.
func (s *suite) uninstall(t *testing.T, ctx context.Context) {
	t.Cleanup(func() {
		clean := context.WithoutCancel(ctx)
		_, _ = s.try(clean, "", "delete", "namespace", outside, bookinfo, "--ignore-not-found", "--wait=false")
	})
	s.follow(t, ctx, "Uninstall")
	kinds := "customresourcedefinitions,clusterroles,clusterrolebindings,priorityclasses,validatingadmissionpolicies,validatingadmissionpolicybindings," +
		"mutatingwebhookconfigurations,validatingwebhookconfigurations,namespaces"
	eventually(t, ctx, "nothing is left behind", func() error {
		left, err := s.try(ctx, "", "get", kinds, "-o", "name")
		if err != nil {
			return err
		}
		for line := range strings.Lines(left) {
			if strings.Contains(line, "pilot-lite") && !strings.Contains(line, "pilot-lite-e2e") {
				return fmt.Errorf("there is still %s", line)
			}
		}
		left, err = s.try(ctx, "", "get", "networkpolicies", "-A", "-l", "app.kubernetes.io/managed-by=pilot-lite", "-o", "name")
		if err == nil && left != "" {
			err = fmt.Errorf("companions are left: %s", left)
		}
		return err
	})
	for _, p := range s.parts(t, ctx) {
		if len(p.pod.Spec.InitContainers) > 0 || p.pod.Labels["policy.pilot-lite.io/proxy"] != "" {
			t.Errorf("pod %s still has its sidecar", p.pod.Name)
		}
	}
	s.pageIsWhole(t, ctx)
}
