//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// meshConfig is a patch of the mesh's settings.
func meshConfig(spec string) string {
	return fmt.Sprintf("-p={\"data\":{\"mesh.yaml\":%q}}", "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: pilot-lite}\nspec: "+spec+"\n")
}

// withoutSidecar: a pod that policies select, and that has no sidecar to judge HTTP, is shut and not opened.
func (s *suite) withoutSidecar(t *testing.T, ctx context.Context) {
	parts, outsider := s.who(t, ctx)
	naked := s.plainPod(bookinfo, "ratings-naked", "{app: ratings, version: v1, policy.pilot-lite.io/inject: disabled}")
	if _, err := s.try(ctx, naked, "apply", "-f", "-"); err == nil || !strings.Contains(err.Error(), "opt out") {
		t.Errorf("a pod opts out of its sidecar, where nobody permitted it: %v", err)
	}
	before := s.kubectl(t, ctx, "-n", system, "get", "configmap", "pilot-lite", "-o", `jsonpath={.data.mesh\.yaml}`)
	t.Cleanup(func() {
		clean := context.WithoutCancel(ctx)
		_, _ = s.try(clean, "", "-n", bookinfo, "delete", "pod", "ratings-naked", "--ignore-not-found", "--grace-period=1")
		_, _ = s.try(clean, "", "-n", system, "patch", "configmap", "pilot-lite", "--type=merge", fmt.Sprintf("-p={\"data\":{\"mesh.yaml\":%q}}", before))
	})
	s.kubectl(t, ctx, "-n", system, "patch", "configmap", "pilot-lite", "--type=merge", meshConfig("{optOutNamespaces: [bookinfo]}"))
	eventually(t, ctx, "the pod may opt out", func() error {
		_, err := s.try(ctx, naked, "apply", "-f", "-")
		return err
	})
	eventually(t, ctx, "the pod runs", func() error {
		if p := s.pods(t, ctx, bookinfo, "app=ratings,policy.pilot-lite.io/inject=disabled"); len(p) != 1 || !ready(&p[0]) || len(p[0].Spec.InitContainers) > 0 {
			return fmt.Errorf("it does not: %d pods", len(p))
		}
		return nil
	})
	s.says(t, ctx, bookinfo, "ratings", metav1.ConditionFalse, "NoProxy")
	pod := s.pods(t, ctx, bookinfo, "app=ratings,policy.pilot-lite.io/inject=disabled")[0]
	read := question{URL: "http://" + pod.Status.PodIP + ":9080/ratings/0"}
	for _, from := range []asker{parts["reviews-v2"].asker(), parts["productpage-v1"].asker(), parts["details-v1"].asker(), outsider} {
		s.comes(t, ctx, from, read, stopped)
	}
	s.kubectl(t, ctx, "-n", bookinfo, "delete", "pod", "ratings-naked", "--grace-period=1")
	s.says(t, ctx, bookinfo, "ratings", metav1.ConditionTrue, "")
}

// sidecarPorts must be reachable by nobody over the network: captured traffic, the kubelet's port, and the neighbours of both.
func sidecarPorts() []uint16 { return []uint16{15000, 15001, 15006, 15021, 15090} }

// companionsAlone takes the sidecar out of the way, and the kernel still lets in and out only what policies connect.
func (s *suite) companionsAlone(t *testing.T, ctx context.Context) {
	parts, outsider := s.who(t, ctx)
	page, details := parts["productpage-v1"], parts["details-v1"]
	for _, from := range []asker{page.asker(), parts["reviews-v1"].asker(), outsider} {
		var questions []question
		for _, port := range sidecarPorts() {
			questions = append(questions, question{ID: fmt.Sprint(port), URL: details.url(port, "/healthz")})
		}
		answers, err := s.ask(ctx, from, questions...)
		if err != nil {
			t.Fatal(err)
		}
		for port, a := range answers {
			if a.outcome() != stopped {
				t.Errorf("port %s of a sidecar, from %s: %s", port, from.pod, a)
			}
		}
	}
	if s.lab == "" {
		t.Skip("the rest reaches into a pod's network namespace: it needs LAB_STATE, on the node itself")
	}
	program := s.hostProgram(t, ctx)
	// The redirect is gone, as if somebody had found a way to undo it. That the sidecar is out of the way shows in what it would deny.
	s.inNamespace(t, ctx, details, "nft", "delete", "table", "inet", "pilot_lite")
	s.comes(t, ctx, page.asker(), writesDetailsNowhere(parts), served)
	s.must(t, ctx, parts["reviews-v1"].asker(), readsDetails(parts), stopped)
	s.must(t, ctx, parts["ingress"].asker(), readsDetails(parts), stopped)
	s.must(t, ctx, outsider, readsDetails(parts), stopped)
	// Nor does it call others, whatever user it runs as.
	for from, want := range map[string]outcome{"details-v1": stopped, "reviews-v1": stopped, "productpage-v1": denied} {
		answers, err := askBy(s.asProxy(t, ctx, parts[from], program), question{ID: "one", URL: parts["ratings-v1"].url(9080, "/ratings/0")})
		if err != nil {
			t.Error(err)
			continue
		}
		if got := answers["one"]; got.outcome() != want {
			t.Errorf("as the sidecar's user in %s, to ratings: %s, want %s", from, got, want)
		}
	}
	s.kubectl(t, ctx, "-n", bookinfo, "delete", "pod", details.pod.Name)
	s.parts(t, ctx)
	s.enforced(t, ctx)
}

// writesDetailsNowhere is what the sidecar of details denies its only caller.
func writesDetailsNowhere(parts map[string]*part) question {
	return question{Method: "GET", URL: parts["details-v1"].url(9080, "/healthz")}
}

// hostProgram is bookinfo's program on this machine, which is the node.
func (s *suite) hostProgram(t *testing.T, ctx context.Context) string {
	t.Helper()
	path := filepath.Join(s.dir, "bookinfo")
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-o", path, "../../examples/bookinfo/app")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build bookinfo: %v\n%s", err, out)
	}
	return path
}

// networkNamespace finds a pod's, by its address.
func (s *suite) networkNamespace(t *testing.T, ctx context.Context, p *part) string {
	t.Helper()
	for _, name := range s.networkNamespaces(t, ctx) {
		if s.holds4(ctx, name, p.pod.Status.PodIP) {
			return name
		}
	}
	t.Fatalf("no network namespace has %s", p.pod.Status.PodIP)
	return ""
}

func (s *suite) inNamespace(t *testing.T, ctx context.Context, p *part, command ...string) {
	t.Helper()
	if _, err := s.command(ctx, "", "ip", append([]string{"netns", "exec", s.networkNamespace(t, ctx, p)}, command...)...); err != nil {
		t.Fatal(err)
	}
}

// asProxy asks in a pod's network as the user that its sidecar runs as, whose traffic is captured nowhere.
func (s *suite) asProxy(t *testing.T, ctx context.Context, p *part, program string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(ctx, "ip", "netns", "exec", s.networkNamespace(t, ctx, p),
		"setpriv", "--reuid=1337", "--regid=1337", "--clear-groups", program, "ask", "--timeout", askTimeout)
}

// sidecarsAlone takes the companions away, and the control plane that would put them back: the sidecars decide as before, from what they have.
func (s *suite) sidecarsAlone(t *testing.T, ctx context.Context) {
	s.apply(t, ctx, throwaway)
	s.kubectl(t, ctx, "-n", system, "scale", "deployment/pilot-lite", "--replicas=0")
	t.Cleanup(func() {
		_, _ = s.try(context.WithoutCancel(ctx), "", "-n", system, "scale", "deployment/pilot-lite", "--replicas=2")
	})
	eventually(t, ctx, "the control plane is gone", func() error {
		list, err := s.CoreV1().Pods(system).List(ctx, metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d pods", len(list.Items))
		}
		return err
	})
	s.kubectl(t, ctx, "-n", bookinfo, "delete", "networkpolicy", "-l", "app.kubernetes.io/managed-by=pilot-lite")
	s.holds(t, ctx, bySidecars)
	s.withoutWebhooks(t, ctx)
	s.kubectl(t, ctx, "-n", system, "scale", "deployment/pilot-lite", "--replicas=2")
	s.waitReady(t, ctx, system, "app.kubernetes.io/name=pilot-lite", 2)
	s.enforced(t, ctx)
	s.holds(t, ctx, byBothLayers)
}

// throwaway is a policy that selects nothing.
const throwaway = `
apiVersion: policy.pilot-lite.io/v1alpha1
kind: L7Policy
metadata: {name: throwaway, namespace: bookinfo}
spec: {podSelector: {matchLabels: {app: nothing}}}
`

// withoutWebhooks: while nobody answers for them, no pod starts without its sidecar and no policy is written unread; deleting, and every other namespace, is free.
func (s *suite) withoutWebhooks(t *testing.T, ctx context.Context) {
	t.Helper()
	for name, test := range map[string]struct{ yaml, refusedBy string }{
		"a pod with injection":                   {s.plainPod(bookinfo, "early", "{app: early}"), "inject.policy.pilot-lite.io"},
		"a pod without injection":                {s.plainPod(outside, "early", "{app: early}"), ""},
		"a pod in the control plane's namespace": {s.plainPod(system, "early", "{app: early}"), ""},
		"a policy":                               {strings.Replace(throwaway, "{app: nothing}", "{app: something}", 1), "validate.policy.pilot-lite.io"},
	} {
		_, err := s.try(ctx, test.yaml, "apply", "--dry-run=server", "-f", "-")
		if refused := err != nil && strings.Contains(err.Error(), test.refusedBy); refused != (test.refusedBy != "") {
			t.Errorf("%s: %v, want a refusal by %q", name, err, test.refusedBy)
		}
	}
	s.kubectl(t, ctx, "-n", bookinfo, "delete", "l7p", "throwaway")
}

// refusals are a few of the ways to void a sidecar, as a user would try them; the manifests' own tests have them all.
func (s *suite) refusals(t *testing.T, ctx context.Context) {
	base := s.plainPod(bookinfo, "refused", "{app: refused}")
	for name, test := range map[string]struct{ yaml, says string }{
		"the node's network":     {strings.Replace(base, "spec:\n", "spec:\n  hostNetwork: true\n", 1), "hostNetwork"},
		"the sidecar's user":     {strings.Replace(base, "runAsUser: 65532", "runAsUser: 1337", 1), "1337"},
		"NET_ADMIN":              {strings.Replace(base, "{drop: [ALL]}", "{add: [NET_ADMIN]}", 1), "NET_ADMIN"},
		"the sidecar's name":     {strings.Replace(base, "- name: app\n", "- name: pilot-lite-proxy\n", 1), "pilot-lite-proxy"},
		"a label that lies":      {s.plainPod(outside, "refused", "{policy.pilot-lite.io/proxy: injected, policy.pilot-lite.io/service-account: bookinfo-productpage}"), "injector"},
		"another label's value":  {s.plainPod(bookinfo, "refused", "{policy.pilot-lite.io/inject: perhaps}"), "policy.pilot-lite.io/inject"},
		"a policy without sense": {"apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: refused, namespace: bookinfo}\nspec: {ingress: [{http: [{paths: [{type: RegularExpression, value: \"/(\"}]}]}]}\n", "regular expression"},
	} {
		if _, err := s.try(ctx, test.yaml, "apply", "--dry-run=server", "-f", "-"); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v; want a refusal that says %q", name, err, test.says)
		}
	}
}
