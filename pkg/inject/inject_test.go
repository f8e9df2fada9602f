package inject_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
)

// What somebody might try to get around the sidecar is refused, with each field that must change; everything else is injected. The same table is asked of a real API server
// with the admission policies, in manifests.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	for _, v := range injecttest.Verdicts(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			if len(v.Refused) > 0 {
				refused(t, v.Pod, injecttest.Config(), v.Refused...)
				return
			}
			result := injected(t, v.Pod, injecttest.Config())
			if !result.Injected {
				t.Error("it is said to have no sidecar")
			}
			if diff := cmp.Diff(v.Notices, codes(result.Notices)); diff != "" {
				t.Errorf("notices (-want +got):\n%s", diff)
			}
		})
	}
}

// A pod goes without a sidecar where the mesh's settings let it. It then says nothing of a sidecar or an account that nobody checked, and has none of an earlier injection.
func TestOptOut(t *testing.T) {
	t.Parallel()
	plain := web()
	plain.Labels[injectLabel] = "disabled"
	lies := plain.DeepCopy()
	lies.Labels[proxyLabel], lies.Labels[accountLabel] = "injected", "admin"
	lies.Annotations = map[string]string{probesAnnotation: "{}"}
	before := web()
	before.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port(80)}}}
	earlier := injected(t, before, injecttest.Config()).Pod
	earlier.Labels[injectLabel] = "disabled"
	before.Labels[injectLabel] = "disabled"
	for name, test := range map[string]struct{ in, want *corev1.Pod }{
		"plain":                   {plain, plain},
		"labels that lie":         {lies, plain},
		"injected earlier":        {earlier, before},
		"what it was before that": {before, before},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, found := inject.Pod(test.in, injecttest.OptOut, injecttest.Config())
			if len(found) > 0 || result.Injected {
				t.Fatalf("refused, or injected: %v", found)
			}
			if diff := cmp.Diff(asJSON(t, test.want), asJSON(t, result.Pod)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(asJSON(t, test.want), patched(t, []byte(asJSON(t, test.in)), test.in, result.Pod)); diff != "" {
				t.Errorf("the patch leads elsewhere (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"not-injected"}, codes(result.Notices)); diff != "" {
				t.Errorf("notices (-want +got):\n%s", diff)
			}
		})
	}
}

// Only the namespace's name counts: what a pod asks for elsewhere is refused, and without a label it is injected.
func TestOptOutIsForItsNamespacesAlone(t *testing.T) {
	t.Parallel()
	p := web()
	p.Labels[injectLabel] = "disabled"
	p.Namespace = injecttest.OptOut // what the pod says itself is not where it is created
	refused(t, p, injecttest.Config(), "metadata.labels["+injectLabel+"]")
	delete(p.Labels, injectLabel)
	if result, found := inject.Pod(p, injecttest.OptOut, injecttest.Config()); len(found) > 0 || !result.Injected {
		t.Errorf("a pod that does not ask goes without: %v", found)
	}
}

// The cluster and the control plane start without sidecars, whatever their pods look like.
func TestExemptNamespaces(t *testing.T) {
	t.Parallel()
	p := web()
	p.Spec.HostNetwork = true
	for _, namespace := range injecttest.Config().ExemptNamespaces {
		result, found := inject.Pod(p, namespace, injecttest.Config())
		if len(found) > 0 || result.Injected {
			t.Fatalf("%s: refused, or injected: %v", namespace, found)
		}
		if diff := cmp.Diff(p, result.Pod); diff != "" {
			t.Errorf("%s (-before +after):\n%s", namespace, diff)
		}
	}
}

// Who a pod is stands in its spec, and never in what it says of itself.
func TestTheAccountIsStampedFromTheSpec(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("account.", 20) + "x"
	sum := sha256.Sum256([]byte(long))
	for name, test := range map[string]struct{ account, deprecated, want string }{
		"an account":                {"web", "", "web"},
		"none":                      {"", "", "default"},
		"by the old field":          {"", "web", "web"},
		"both, of which one counts": {"web", "old", "web"},
		"with dots":                 {"team.web", "", "team.web"},
		"as long as a label":        {strings.Repeat("a", 63), "", strings.Repeat("a", 63)},
		"longer than a label":       {long, "", long[:46] + "-" + hex.EncodeToString(sum[:])[:16]},
		"longer by one":             {strings.Repeat("a", 64), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := web()
			p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount = test.account, test.deprecated
			p.Labels[proxyLabel], p.Labels[accountLabel] = "injected", "admin"
			got := injected(t, p, injecttest.Config()).Pod.Labels[accountLabel]
			if test.want != "" && got != test.want || len(got) > 63 {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// In a cluster whose pods have IPv6 addresses, HTTP probes carry them as a Host header has them.
func TestIPv6(t *testing.T) {
	t.Parallel()
	p := web()
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: port(8080)}}}
	for host, ipv6 := range map[string]bool{"10.0.0.7:8080": false, "[10.0.0.7]:8080": true} {
		c := injecttest.Config()
		c.IPv6 = ipv6
		got := bootstrapOf(t, injected(t, p, c).Pod).GetStaticResources().GetClusters()[1].GetHealthChecks()[0].GetHttpHealthCheck().GetHost()
		if got != host {
			t.Errorf("host %q, want %q", got, host)
		}
	}
}

// What the control plane lacks is no fault of the pod's: it is refused, and nothing is made up.
func TestNoPodWithoutWhatTheControlPlaneGives(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*inject.Config){
		"no authority": func(c *inject.Config) { c.CABundle = nil },
		"a damaged one": func(c *inject.Config) {
			c.CABundle = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
		},
		"no control plane": func(c *inject.Config) { c.Server = "" },
		"one without port": func(c *inject.Config) { c.Server = "pilot-lite" },
		"too many bytes":   func(c *inject.Config) { c.CABundle = []byte(strings.Repeat(string(c.CABundle), 250)) },
		"a key in the file": func(c *inject.Config) {
			c.CABundle = append([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), c.CABundle...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := injecttest.Config()
			change(&c)
			refused(t, web(), c, "spec")
		})
	}
}
