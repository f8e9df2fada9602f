// Package manifests_test applies what users apply to a real API server, and asks it what it lets pass.
package manifests_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

const (
	system       = "pilot-lite-system"
	controlPlane = "system:serviceaccount:" + system + ":pilot-lite"
	timeout      = 30 * time.Second
)

// cluster is an API server with everything of this folder in it, but the webhooks: what is tested must hold without them. Those that are about the webhooks come last.
type cluster struct {
	kubernetes.Interface

	server *apitest.Server
}

func start(t *testing.T) *cluster {
	t.Helper()
	kubectl := apitest.Program(t, "KUBECTL", "kubectl")
	s := apitest.New(t)
	c := &cluster{server: s, Interface: kubernetes.NewForConfigOrDie(s.Config())}
	kubeconfig := apitest.Kubeconfig(t, s.Config())
	run := func(args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), kubectl, append([]string{"--kubeconfig", kubeconfig}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		if strings.Contains(string(out), "Warning:") {
			t.Errorf("kubectl %s warns:\n%s", strings.Join(args, " "), out)
		}
	}
	run("apply", "-k", ".")
	run("apply", "-k", ".") // as an upgrade does
	run("delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", "pilot-lite")
	for _, ns := range []corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"policy.pilot-lite.io/inject": "enabled"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "other"}},
	} {
		if _, err := c.CoreV1().Namespaces().Create(t.Context(), &ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"default", "web", longAccount} {
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
			if _, err := c.CoreV1().ServiceAccounts(ns.Name).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.waitForPolicies(t)
	return c
}

// as is the cluster as somebody else sees it.
func (c *cluster) as(user string) kubernetes.Interface {
	config := c.server.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	return kubernetes.NewForConfigOrDie(config)
}

// TestInstalled applies everything once, and asks the API server what it lets pass.
func TestInstalled(t *testing.T) {
	t.Parallel()
	c := start(t)
	t.Run("the control plane's rights", c.rights)
	t.Run("scrapers read metrics", c.scrapersRead)
	t.Run("only real sidecars pass", c.onlyRealSidecarsPass)
	t.Run("the injector and the API server agree", c.verdictsAgree)
	t.Run("who a pod is stays", c.whoAPodIsStays)
	t.Run("companions are marked by the control plane", c.companionsAreMarked)
	t.Run("settings are settings", c.settingsAreSettings)
	// From here on with webhooks.
	t.Run("nobody answers", c.nobodyAnswers)
	t.Run("the control plane answers", c.controlPlaneAnswers)
}

// rights holds the roles against what the control plane does, and against some of what it must never be able to.
func (c *cluster) rights(t *testing.T) {
	ask := func(t *testing.T, r *authorizationv1.ResourceAttributes) bool {
		t.Helper()
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: controlPlane, ResourceAttributes: r}}
		got, err := c.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Status.Allowed
	}
	type attributes = authorizationv1.ResourceAttributes
	may := []attributes{
		{Verb: "watch", Resource: "pods"},
		{Verb: "watch", Resource: "namespaces"},
		{Verb: "watch", Group: "discovery.k8s.io", Resource: "endpointslices"},
		{Verb: "list", Group: "policy.pilot-lite.io", Resource: "l7policies"},
		{Verb: "patch", Group: "policy.pilot-lite.io", Resource: "l7policies", Subresource: "status"},
		{Verb: "patch", Group: "networking.k8s.io", Resource: "networkpolicies"},
		{Verb: "update", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Name: "pilot-lite"},
		{Verb: "get", Namespace: system, Resource: "secrets", Name: "pilot-lite-ca"},
		{Verb: "update", Group: "coordination.k8s.io", Namespace: system, Resource: "leases", Name: "pilot-lite"},
		{Verb: "watch", Namespace: system, Resource: "configmaps", Name: "pilot-lite"},
		{Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"},
		{Verb: "create", Group: "authorization.k8s.io", Resource: "subjectaccessreviews"},
	}
	for _, r := range may {
		if !ask(t, &r) {
			t.Errorf("the control plane may not %s", describe(&r))
		}
	}
	mayNot := []attributes{
		{Verb: "get", Group: "networking.k8s.io", Namespace: "shop", Resource: "networkpolicies"},
		{Verb: "get", Namespace: "shop", Resource: "secrets", Name: "password"},
		{Verb: "list", Namespace: system, Resource: "secrets"},
		{Verb: "get", Namespace: system, Resource: "secrets", Name: "other"},
		{Verb: "create", Namespace: "shop", Resource: "pods"},
		{Verb: "patch", Namespace: "shop", Resource: "pods"},
		{Verb: "delete", Namespace: "shop", Resource: "pods"},
		{Verb: "create", Namespace: "shop", Resource: "pods", Subresource: "exec"},
		{Verb: "create", Namespace: "shop", Resource: "serviceaccounts", Subresource: "token"},
		{Verb: "update", Group: "policy.pilot-lite.io", Namespace: "shop", Resource: "l7policies"},
		{Verb: "delete", Group: "policy.pilot-lite.io", Namespace: "shop", Resource: "l7policies"},
		{Verb: "update", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Name: "other"},
		{Verb: "create", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations"},
		{Verb: "update", Group: "coordination.k8s.io", Namespace: system, Resource: "leases", Name: "other"},
		{Verb: "update", Resource: "namespaces", Name: "shop"},
		{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"},
	}
	for _, r := range mayNot {
		if ask(t, &r) {
			t.Errorf("the control plane may %s", describe(&r))
		}
	}
}

// scrapersRead binds the role for scrapers, and holds it against the path that the control plane asks about.
func (c *cluster) scrapersRead(t *testing.T) {
	const scraper = "system:serviceaccount:monitoring:prometheus"
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "scraper"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "pilot-lite-metrics-reader"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "monitoring", Name: "prometheus"}},
	}
	if _, err := c.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	may := func(user, verb, path string) bool {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user, NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: verb, Path: path},
		}}
		got, err := c.as(controlPlane).AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Status.Allowed
	}
	apitest.Eventually(t, timeout, "the scraper may read metrics", func() error {
		if !may(scraper, "get", "/metrics") {
			return errors.New("not yet")
		}
		return nil
	})
	for _, other := range [][3]string{{scraper, "post", "/metrics"}, {scraper, "get", "/metrics/slis"}, {scraper, "get", "/debug/pprof"}, {"system:serviceaccount:shop:web", "get", "/metrics"}} {
		if may(other[0], other[1], other[2]) {
			t.Errorf("%v is allowed", other)
		}
	}
}

func describe(r *authorizationv1.ResourceAttributes) string {
	return strings.Join([]string{r.Verb, r.Group, r.Resource, r.Subresource, r.Namespace, r.Name}, " ")
}
