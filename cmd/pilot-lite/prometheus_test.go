package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// A real Prometheus with the example's configuration, and the rights that the documentation gives it, finds and reads the control plane and a sidecar.
func TestPrometheusScrapes(t *testing.T) {
	t.Parallel()
	program := apitest.Program(t, "PROMETHEUS", "prometheus")
	r := startReplica(t)
	r.ready(t, http.StatusOK, "ok")
	token := r.account(t, "prometheus")
	r.bind(t, "pilot-lite-metrics-reader", "prometheus")
	if _, err := r.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "watch"}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.bind(t, "prometheus", "prometheus")

	// Both as pods that the API server knows; the sidecar has an address of its own.
	const address = "127.15.90.1"
	control := sidecartest.NewControl(t)
	control.Give(new(rbac.Compiler).Metrics(&rbac.Sources{Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}))
	sidecartest.Start(t, control, address)
	host, port, err := net.SplitHostPort(r.hooks)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	r.runs(t, r.namespace, "web", map[string]string{v1alpha1.LabelProxy: v1alpha1.ProxyInjected}, address, corev1.ContainerPort{Name: "http", ContainerPort: 8080})
	r.runs(t, defaultNamespace, "pilot-lite-0", map[string]string{"app.kubernetes.io/name": "pilot-lite"}, host,
		corev1.ContainerPort{Name: "grpc-xds", ContainerPort: 15012}, corev1.ContainerPort{Name: "https-webhook", ContainerPort: int32(number)})

	get := r.prometheus(t, program, token)
	ask := func(query string) error { // whether it has a result
		var answer struct{ Data struct{ Result []any } }
		if err := get("query", url.Values{"query": {query}}, &answer); err != nil {
			return err
		}
		if len(answer.Data.Result) == 0 {
			return errors.New("nothing")
		}
		return nil
	}
	for _, query := range []string{
		`up{job="pilot-lite",pod="pilot-lite-0"} == 1`, `pilot_lite_proxies`,
		`up{job="pilot-lite-sidecars",namespace="` + r.namespace + `",pod="web"} == 1`, `envoy_http_rbac_denied{pod="web",envoy_http_conn_manager_prefix="metrics"}`,
	} {
		apitest.Eventually(t, patience, query, func() error { return ask(query) })
	}
	if err := ask(`count(up{job="pilot-lite"}) == 1 and count(up{job="pilot-lite-sidecars",pod="web"}) == 1`); err != nil {
		t.Errorf("one target each: %v", err)
	}
	// The example's alerts, too, are what it can evaluate.
	apitest.Eventually(t, patience, "the alerts are evaluated", func() error {
		var answer struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		if err := get("rules", nil, &answer); err != nil || len(answer.Data.Groups) != 1 || len(answer.Data.Groups[0].Rules) == 0 {
			return fmt.Errorf("%v %w", answer, err)
		}
		for _, rule := range answer.Data.Groups[0].Rules {
			if rule.Health != "ok" {
				return fmt.Errorf("%s: %s %s", rule.Name, rule.Health, rule.LastError)
			}
		}
		return nil
	})
}

// bind gives a ClusterRole to an account.
func (r *replica) bind(t *testing.T, role, account string) {
	t.Helper()
	_, err := r.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: role + "-"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: r.namespace, Name: account}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// runs makes a pod that runs at an address.
func (r *replica) runs(t *testing.T, namespace, name string, labels map[string]string, address string, ports ...corev1.ContainerPort) {
	t.Helper()
	no := false
	pods := r.CoreV1().Pods(namespace)
	if namespace == defaultNamespace {
		if _, err := r.CoreV1().ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	restricted := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), RunAsNonRoot: new(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	p, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.PodSpec{
		NodeName: "node", AutomountServiceAccountToken: &no,
		Containers: []corev1.Container{{Name: "a", Image: "a", Ports: ports, SecurityContext: restricted}, {Name: "b", Image: "b", SecurityContext: restricted}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
	if _, err := pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// prometheus runs with the example's configuration and alerts, as a pod would but for where its files are, and asks its API.
func (r *replica) prometheus(t *testing.T, program, token string) (get func(path string, values url.Values, into any) error) {
	t.Helper()
	dir, address := t.TempDir(), porttest.Address(t)
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	api := r.server.Config()
	tokenFile, apiCA := write("token", []byte(token)), write("api-ca.pem", api.CAData)
	examples, err := filepath.Abs(filepath.Join(apitest.Root(t), "examples", "prometheus"))
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(filepath.Join(examples, "prometheus.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	inCluster := fmt.Sprintf("{api_server: %q, authorization: {credentials_file: %q}, tls_config: {ca_file: %q}, role: pod", api.Host, tokenFile, apiCA)
	text := strings.NewReplacer(
		"/var/run/secrets/kubernetes.io/serviceaccount/token", tokenFile, "/etc/prometheus/pilot-lite/ca.pem", write("ca.pem", r.authority(t)), "{role: pod", inCluster,
	).Replace(fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n%s", filepath.Join(examples, "alerts.yaml"), example))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file="+write("prometheus.yaml", []byte(text)), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("Prometheus says:\n%s", said)
		}
		_ = log.Close()
	})
	return func(path string, values url.Values, into any) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/api/v1/"+path+"?"+values.Encode(), http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, into); err != nil {
			return fmt.Errorf("%s: %s %w", resp.Status, body, err)
		}
		return nil
	}
}
