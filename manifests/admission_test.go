package manifests_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
)

const (
	proxyLabel   = "policy.pilot-lite.io/proxy"
	accountLabel = "policy.pilot-lite.io/service-account"
	longAccount  = "an-account-whose-name-is-longer-than-the-sixty-three-characters-of-a-label"
)

func dryRun() metav1.CreateOptions { return metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}} }

// author is a pod as an author writes it.
func author(account string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			ServiceAccountName: account,
			Containers: []corev1.Container{{
				Name: "web", Image: "web:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}},
			}},
		},
	}
}

// injected is that pod as the injector returns it.
func injected(t *testing.T, account string, annotations map[string]string) *corev1.Pod {
	t.Helper()
	in := author(account)
	in.Annotations = annotations
	result, found := inject.Pod(in, injecttest.Namespace, injecttest.Config())
	if len(found) > 0 {
		t.Fatalf("the injector refuses: %v", found)
	}
	return result.Pod
}

// waitForPolicies returns when every admission policy is in force: the API server learns of them by a watch.
func (c *cluster) waitForPolicies(t *testing.T) {
	t.Helper()
	forged := author("web")
	forged.Labels[proxyLabel] = "injected"
	ctx := t.Context()
	apitest.Eventually(t, timeout, "the admission policies are in force", func() error {
		if _, err := c.CoreV1().Pods("other").Create(ctx, forged, dryRun()); err == nil {
			return errors.New("a forged pod passes")
		}
		if _, err := c.CoreV1().Pods("shop").Create(ctx, author("web"), dryRun()); err == nil {
			return errors.New("a pod without sidecar passes")
		}
		if _, err := c.NetworkingV1().NetworkPolicies("shop").Create(ctx, companion(), dryRun()); err == nil {
			return errors.New("a forged companion passes")
		}
		binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{proxyLabel: "injected"}}, Target: corev1.ObjectReference{Kind: "Node", Name: "node"}}
		if err := c.CoreV1().Pods("shop").Bind(ctx, binding, dryRun()); err == nil || !strings.Contains(err.Error(), "binding must not") {
			return errors.New("a binding writes labels")
		}
		empty := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "pilot-lite"}}
		if _, err := c.CoreV1().ConfigMaps(system).Update(ctx, empty, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}}); err == nil {
			return errors.New("empty settings pass")
		}
		if _, err := c.CoreV1().Pods("shop").Create(ctx, injected(t, "web", nil), dryRun()); err != nil {
			return fmt.Errorf("the injector's own pod: %w", err)
		}
		return nil
	})
}

// onlyRealSidecarsPass: a pod that claims a sidecar has it, whole, and nothing beside it that gets around it.
func (c *cluster) onlyRealSidecarsPass(t *testing.T) {
	root := int64(0)
	tests := map[string]struct {
		namespace, account string
		annotations        map[string]string
		change             func(p *corev1.Pod)
		refused            string // part of the message; "" for a pod that passes
	}{
		"what the injector makes":        {},
		"an account with a long name":    {account: longAccount},
		"ports left alone":               {annotations: map[string]string{"policy.pilot-lite.io/exclude-inbound-ports": " 9090,9091 "}},
		"a namespace without injection":  {namespace: "other", refused: "only the injector writes the labels"},
		"the control plane's namespace":  {namespace: system, account: "pilot-lite", refused: "only the injector|violates PodSecurity"},
		"no proxy label":                 {change: func(p *corev1.Pod) { delete(p.Labels, proxyLabel) }, refused: "need a sidecar|beside policy.pilot-lite.io/proxy=injected"},
		"another proxy label":            {change: func(p *corev1.Pod) { p.Labels[proxyLabel] = "yes" }, refused: "need a sidecar|beside policy.pilot-lite.io/proxy=injected"},
		"no account label":               {change: func(p *corev1.Pod) { delete(p.Labels, accountLabel) }, refused: "must name the pod's own account"},
		"somebody else's account":        {change: func(p *corev1.Pod) { p.Labels[accountLabel] = "default" }, refused: "must name the pod's own account"},
		"a long account, cut":            {account: longAccount, change: func(p *corev1.Pod) { p.Labels[accountLabel] = longAccount[:63] }, refused: "must name the pod's own account"},
		"no sidecar":                     {change: func(p *corev1.Pod) { p.Spec.InitContainers = nil }, refused: "the first init containers"},
		"capture alone":                  {change: func(p *corev1.Pod) { p.Spec.InitContainers = p.Spec.InitContainers[:1] }, refused: "the first init containers"},
		"the sidecar before the capture": {change: func(p *corev1.Pod) { i := p.Spec.InitContainers; i[0], i[1] = i[1], i[0] }, refused: "the first init containers"},
		"a container before both":        {change: before(corev1.Container{Name: "early", Image: "x"}), refused: "the first init containers"},
		"another sidecar image":          {change: func(p *corev1.Pod) { p.Spec.InitContainers[1].Image = "evil:1" }, refused: "the sidecar's images"},
		"another capture image":          {change: func(p *corev1.Pod) { p.Spec.InitContainers[0].Image = "evil:1" }, refused: "the sidecar's images"},
		"capture does something else":    {change: func(p *corev1.Pod) { p.Spec.InitContainers[0].Args = []string{"validate"} }, refused: "pilot-lite-capture must run"},
		"capture only shows":             {change: func(p *corev1.Pod) { p.Spec.InitContainers[0].Args = []string{"capture", "--dry-run"} }, refused: "pilot-lite-capture must run"},
		"capture leaves out more than is said": {change: func(p *corev1.Pod) {
			p.Spec.InitContainers[0].Args = []string{"capture", "--exclude-inbound-ports", "80"}
		}, refused: "pilot-lite-capture must run"},
		"capture leaves out what it was told to": {annotations: map[string]string{"policy.pilot-lite.io/exclude-inbound-ports": "80"}, change: func(p *corev1.Pod) {
			p.Spec.InitContainers[0].Args = p.Spec.InitContainers[0].Args[:1]
		}, refused: "pilot-lite-capture must run"},
		"a token volume with more in it": {change: func(p *corev1.Pod) {
			v := ours(p, "pilot-lite-token")
			v.Projected.Sources = append(v.Projected.Sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "a"}}})
		}, refused: "must be as the injector wrote them"},
		"the sidecar's socket on the node": {change: func(p *corev1.Pod) {
			ours(p, "pilot-lite-run").VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}}
		}, refused: "must be as the injector wrote them"},
		"capture by a command":     {change: func(p *corev1.Pod) { p.Spec.InitContainers[0].Command = []string{"true"} }, refused: "pilot-lite-capture must run"},
		"the sidecar by a command": {change: func(p *corev1.Pod) { p.Spec.InitContainers[1].Command = []string{"true"} }, refused: "pilot-lite-proxy must run"},
		"a sidecar that ends": {change: func(p *corev1.Pod) {
			p.Spec.InitContainers[1].RestartPolicy, p.Spec.InitContainers[1].StartupProbe = nil, nil
		}, refused: "pilot-lite-proxy must run"},
		"a sidecar that holds nothing back": {change: func(p *corev1.Pod) { p.Spec.InitContainers[1].StartupProbe = nil }, refused: "pilot-lite-proxy must run"},
		"a sidecar as root": {change: func(p *corev1.Pod) {
			p.Spec.InitContainers[1].SecurityContext.RunAsUser, p.Spec.InitContainers[1].SecurityContext.RunAsNonRoot = &root, nil
		}, refused: "pilot-lite-proxy must run"},
		"a sidecar with capabilities": {change: func(p *corev1.Pod) {
			p.Spec.InitContainers[1].SecurityContext.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
		}, refused: "pilot-lite-proxy must run"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace, account := "shop", "web"
			if test.namespace != "" {
				namespace = test.namespace
			}
			if test.account != "" {
				account = test.account
			}
			pod := injected(t, account, test.annotations)
			if test.change != nil {
				test.change(pod)
			}
			_, err := c.CoreV1().Pods(namespace).Create(t.Context(), pod, dryRun())
			check(t, err, test.refused)
		})
	}
}

// check wants an error with one of the parts, or none.
func check(t *testing.T, err error, parts string) {
	t.Helper()
	switch {
	case parts == "" && err != nil:
		t.Errorf("refused: %v", err)
	case parts != "" && err == nil:
		t.Errorf("passed; want a refusal with %q", parts)
	case parts != "":
		for part := range strings.SplitSeq(parts, "|") {
			if strings.Contains(err.Error(), part) {
				return
			}
		}
		t.Errorf("refused with %q; want %q", err, parts)
	}
}

func before(c corev1.Container) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.InitContainers = append([]corev1.Container{c}, p.Spec.InitContainers...) }
}

// ours is a volume of the injector's.
func ours(p *corev1.Pod, name string) *corev1.Volume {
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Name == name {
			return &p.Spec.Volumes[i]
		}
	}
	return &corev1.Volume{}
}

// whoAPodIsStays: nothing that says who a pod is can be written after it was created, through any door.
func (c *cluster) whoAPodIsStays(t *testing.T) {
	pods := c.CoreV1().Pods("shop")
	pod, err := pods.Create(t.Context(), injected(t, "web", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	plain := author("web")
	plain.Spec.Containers[0].ReadinessProbe = nil
	if _, err = c.CoreV1().Pods("other").Create(t.Context(), plain, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const labels, annotations = "say who a pod is", "are fixed when a pod is created"
	tests := map[string]struct {
		pod, patch, subresource, refused string
	}{
		"a label of the author":               {patch: `{"metadata":{"labels":{"app":"api"}}}`},
		"an annotation of the author":         {patch: `{"metadata":{"annotations":{"note":"x"}}}`},
		"the sidecar's label":                 {patch: `{"metadata":{"labels":{"policy.pilot-lite.io/proxy":null}}}`, refused: labels},
		"the account":                         {patch: `{"metadata":{"labels":{"policy.pilot-lite.io/service-account":"admin"}}}`, refused: labels},
		"all labels":                          {patch: `{"metadata":{"labels":null}}`, refused: labels},
		"the account, through status":         {patch: `{"metadata":{"labels":{"policy.pilot-lite.io/service-account":"admin"}}}`, subresource: "status", refused: labels},
		"a status":                            {patch: `{"status":{"phase":"Running"}}`, subresource: "status"},
		"a relaxation":                        {patch: `{"metadata":{"annotations":{"policy.pilot-lite.io/allow-http10":"true"}}}`, refused: annotations},
		"what the probes were":                {patch: `{"metadata":{"annotations":{"policy.pilot-lite.io/probes":null}}}`, refused: annotations},
		"a sidecar that is not there":         {pod: "other", patch: `{"metadata":{"labels":{"policy.pilot-lite.io/proxy":"injected"}}}`, refused: labels},
		"an account that nobody stamped":      {pod: "other", patch: `{"metadata":{"labels":{"policy.pilot-lite.io/service-account":"web"}}}`, refused: labels},
		"the sidecar's image":                 {patch: `{"spec":{"initContainers":[{"name":"pilot-lite-proxy","image":"evil:1"}]}}`, refused: "the sidecar's images"},
		"the application's image":             {patch: `{"spec":{"containers":[{"name":"web","image":"web:2"}]}}`},
		"a container to debug":                {patch: `{"spec":{"ephemeralContainers":[{"name":"debug","image":"x","targetContainerName":"web"}]}}`, subresource: "ephemeralcontainers"},
		"a debugger inside the sidecar":       {patch: `{"spec":{"ephemeralContainers":[{"name":"d2","image":"x","targetContainerName":"pilot-lite-proxy"}]}}`, subresource: "ephemeralcontainers", refused: "must not get around it"},
		"a debugger with NET_ADMIN":           {patch: `{"spec":{"ephemeralContainers":[{"name":"d3","image":"x","securityContext":{"capabilities":{"add":["NET_ADMIN"]}}}]}}`, subresource: "ephemeralcontainers", refused: "must not get around it"},
		"a debugger as the sidecar's user":    {patch: `{"spec":{"ephemeralContainers":[{"name":"d4","image":"x","securityContext":{"runAsUser":1337}}]}}`, subresource: "ephemeralcontainers", refused: "must not get around it"},
		"a debugger with the sidecar's files": {patch: `{"spec":{"ephemeralContainers":[{"name":"d5","image":"x","volumeMounts":[{"name":"pilot-lite-run","mountPath":"/run"}]}]}}`, subresource: "ephemeralcontainers", refused: "must not get around it"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace, subresources := "shop", []string{}
			if test.pod != "" {
				namespace = test.pod
			}
			if test.subresource != "" {
				subresources = append(subresources, test.subresource)
			}
			_, err := c.CoreV1().Pods(namespace).Patch(t.Context(), pod.Name, types.StrategicMergePatchType, []byte(test.patch), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, subresources...)
			check(t, err, test.refused)
		})
	}
}

// companion is a NetworkPolicy that poses as one.
func companion() *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "companion", Labels: map[string]string{"policy.pilot-lite.io/policy": "web", "policy.pilot-lite.io/role": "isolate"}}}
}

// companionsAreMarked by the control plane and by nobody else, who may all the same write their own NetworkPolicies.
func (c *cluster) companionsAreMarked(t *testing.T) {
	ours, theirs := c.as(controlPlane).NetworkingV1().NetworkPolicies("shop"), c.NetworkingV1().NetworkPolicies("shop")
	if _, err := ours.Create(t.Context(), companion(), metav1.CreateOptions{}); err != nil {
		t.Fatalf("the control plane: %v", err)
	}
	own := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "own", Labels: map[string]string{"team": "web"}}}
	if _, err := theirs.Create(t.Context(), own, metav1.CreateOptions{}); err != nil {
		t.Fatalf("somebody's own: %v", err)
	}
	posing := companion()
	posing.Name = "posing"
	_, err := theirs.Create(t.Context(), posing, dryRun())
	check(t, err, "mark the companions")
	for name, test := range map[string]struct{ name, patch, refused string }{
		"its mark":                  {"companion", `{"metadata":{"labels":{"policy.pilot-lite.io/role":null}}}`, "mark the companions"},
		"another mark":              {"companion", `{"metadata":{"labels":{"policy.pilot-lite.io/policy":"api"}}}`, "mark the companions"},
		"its spec, to be put back":  {"companion", `{"spec":{"policyTypes":["Ingress"]}}`, ""},
		"somebody's own":            {"own", `{"metadata":{"labels":{"team":"api"}}}`, ""},
		"somebody's own, to a mark": {"own", `{"metadata":{"labels":{"policy.pilot-lite.io/role":"isolate"}}}`, "mark the companions"},
	} {
		_, err := theirs.Patch(t.Context(), test.name, types.MergePatchType, []byte(test.patch), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		t.Run(name, func(t *testing.T) { check(t, err, test.refused) })
	}
	if err := theirs.Delete(t.Context(), "companion", metav1.DeleteOptions{}); err != nil {
		t.Errorf("delete a companion: %v", err)
	}
}

// settingsAreSettings: what is plainly no MeshConfig is refused, without a control plane.
func (c *cluster) settingsAreSettings(t *testing.T) {
	const begin = "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: MeshConfig\n"
	for name, test := range map[string]struct {
		data    map[string]string
		refused string
	}{
		"a MeshConfig":       {map[string]string{"mesh.yaml": "# ours\n" + begin + "spec: {optOutNamespaces: [legacy]}\n"}, ""},
		"nothing":            {nil, "one document"},
		"another key":        {map[string]string{"mesh.yml": begin}, "one document"},
		"a key too many":     {map[string]string{"mesh.yaml": begin, "more": ""}, "one document"},
		"another kind":       {map[string]string{"mesh.yaml": "apiVersion: v1\nkind: ConfigMap\n"}, "must be a MeshConfig"},
		"more than settings": {map[string]string{"mesh.yaml": begin + strings.Repeat("# \n", 30000)}, "must be a MeshConfig"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "pilot-lite"}, Data: test.data}
			_, err := c.CoreV1().ConfigMaps(system).Update(t.Context(), m, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
			check(t, err, test.refused)
		})
	}
}
