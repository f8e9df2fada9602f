// Package inject puts a sidecar into a pod. Pure. Input: a pod as its author wrote it, and a Config. Output: the pod with its sidecar, or why it must not have one.
// Entry point: Pod. The mutating webhook and the command line call the same function.
package inject

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Names of what is put into a pod.
const (
	CaptureContainer = v1alpha1.CaptureContainer
	ProxyContainer   = v1alpha1.ProxyContainer
	tokenVolume      = "pilot-lite-token"
	runVolume        = "pilot-lite-run"

	tokenDir  = "/var/run/secrets/pilot-lite" //nolint:gosec // a folder, and no secret
	tokenFile = "token"
	runDir    = "/run/pilot-lite"

	// ProxyUser is the user and group that the sidecar runs as. Nothing else in the pod may: its traffic is not captured.
	ProxyUser int64 = 1337

	// tokenSeconds is how long a token holds. The kubelet replaces it well before.
	tokenSeconds int64 = 3600
)

// Config is what an injected pod is given.
type Config struct {
	// Image has this program, for the init container that captures; SidecarImage has Envoy as its entry point.
	Image, SidecarImage string
	// Server is the control plane, "host:port"; ServerName is the name in its certificate, which one of CABundle (PEM) signed.
	Server, ServerName string
	CABundle           []byte
	// Audience is whom the pod's token is for.
	Audience string
	// IPv6 says that pods' first addresses are IPv6.
	IPv6 bool
	// OptOutNamespaces are those whose pods may opt out.
	OptOutNamespaces []string
	// ExemptNamespaces are those whose pods never get a sidecar: the cluster and the control plane must be able to start without it.
	ExemptNamespaces []string
}

// Result is what became of a pod.
type Result struct {
	// Pod is the pod to run.
	Pod *corev1.Pod
	// Injected is false where the pod goes without a sidecar: it opted out, and may, or its namespace is exempt.
	Injected bool
	Notices  []model.Diagnostic
}

// Pod puts the sidecar into a pod of a namespace. A pod that has it already is given it anew, so that injecting twice is injecting once, with the newer settings. The
// pod that is passed stays as it is. A pod that must not run as it is written is refused: every reason is a diagnostic.
//
// Whatever its author wrote is kept, but for what is the injector's to say: the labels that it stamps, the annotation in which it keeps the probes, and containers and
// volumes of an earlier injection.
func Pod(in *corev1.Pod, namespace string, c Config) (*Result, []model.Diagnostic) {
	object := objectOf(in, namespace)
	if slices.Contains(c.ExemptNamespaces, namespace) {
		return &Result{Pod: in.DeepCopy(), Notices: []model.Diagnostic{without(object, "", "pods of this namespace run without a sidecar")}}, nil
	}
	pod := authored(in)
	field := "metadata.labels[" + v1alpha1.LabelInject + "]"
	if out, found := optOut(pod, namespace, field, c, object); len(found) > 0 {
		return nil, found
	} else if out {
		return &Result{Pod: pod, Notices: []model.Diagnostic{without(object, field, "the pod runs without a sidecar, as its label asks")}}, nil
	}
	r := &refusals{object: object, config: &c}
	r.check(pod)
	probes := rewriteProbes(pod, r)
	if len(r.found) > 0 {
		return nil, r.found
	}
	proxy, err := proxyContainer(c, probes)
	if err != nil {
		r.refuse("spec", err.Error(), "see the pod's probes and the control plane's settings")
		return nil, r.found
	}
	ours := []corev1.Container{captureContainer(pod, c), proxy}
	keepFilledIn(ours, in)
	pod.Spec.InitContainers = slices.Concat(ours, pod.Spec.InitContainers)
	pod.Spec.Volumes = append(pod.Spec.Volumes, volumes(c)...)
	pod.Labels = maps.Clone(pod.Labels)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[v1alpha1.LabelProxy] = v1alpha1.ProxyInjected
	pod.Labels[v1alpha1.LabelServiceAccount] = model.ServiceAccountLabel(accountOf(pod))
	return &Result{Pod: pod, Injected: true, Notices: r.notices}, nil
}

func without(object model.ObjectRef, field, why string) model.Diagnostic {
	return model.Diagnostic{Code: "not-injected", Severity: model.SeverityNotice, Object: object, Field: field, Consequence: why}
}

func accountOf(p *corev1.Pod) string {
	switch {
	case p.Spec.ServiceAccountName != "":
		return p.Spec.ServiceAccountName
	case p.Spec.DeprecatedServiceAccount != "":
		return p.Spec.DeprecatedServiceAccount
	}
	return "default"
}

// objectOf names a pod. One that a controller makes has no name yet when it is injected.
func objectOf(p *corev1.Pod, namespace string) model.ObjectRef {
	name := p.Name
	if name == "" {
		name = p.GenerateName + "*"
	}
	return model.ObjectRef{Kind: "Pod", Namespace: namespace, Name: name}
}

// optOut says whether a pod goes without a sidecar. Only where the mesh's settings let it: a label that anybody can write must not open what policies shut.
func optOut(p *corev1.Pod, namespace, field string, c Config, object model.ObjectRef) (bool, []model.Diagnostic) {
	value, written := p.Labels[v1alpha1.LabelInject]
	switch {
	case !written, value == v1alpha1.InjectEnabled:
		return false, nil
	case value != v1alpha1.InjectDisabled:
		return false, []model.Diagnostic{refusal(object, field, fmt.Sprintf("%q is no value of this label", value), `write "enabled" or "disabled", or remove the label`)}
	case !slices.Contains(c.OptOutNamespaces, namespace):
		return false, []model.Diagnostic{refusal(object, field, "pods of this namespace may not opt out of their sidecar",
			"remove the label, or have the namespace listed in spec.optOutNamespaces of the MeshConfig")}
	}
	return true, nil
}

func refusal(object model.ObjectRef, field, why, remedy string) model.Diagnostic {
	return model.Diagnostic{Code: "not-injectable", Severity: model.SeverityError, Object: object, Field: field, Consequence: why + ": the pod is refused", Remedy: remedy}
}

// authored is a copy of a pod as its author wrote it: without what an earlier injection put in, and without what only the injector says. What merely has the name of
// one of the injector's containers or volumes is left, and refused later.
func authored(in *corev1.Pod) *corev1.Pod {
	pod := in.DeepCopy()
	if isInjected(pod) {
		restoreProbes(pod)
		pod.Spec.InitContainers = slices.DeleteFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return isOurs(c.Name) })
		pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return isOurs(v.Name) })
	}
	delete(pod.Labels, v1alpha1.LabelProxy)
	delete(pod.Labels, v1alpha1.LabelServiceAccount)
	delete(pod.Annotations, v1alpha1.AnnotationProbes)
	return pod
}

// isOurs says whether a container or a volume has a name of the injector's.
func isOurs(name string) bool {
	return slices.Contains([]string{CaptureContainer, ProxyContainer, tokenVolume, runVolume}, name)
}

// isInjected recognizes what Pod made by its shape: the label alone is anybody's to write. Another webhook may have put containers in front since.
func isInjected(p *corev1.Pod) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
	}
	return p.Labels[v1alpha1.LabelProxy] == v1alpha1.ProxyInjected && has(CaptureContainer) && has(ProxyContainer)
}

func volumes(c Config) []corev1.Volume {
	seconds := tokenSeconds
	return []corev1.Volume{
		{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: c.Audience, ExpirationSeconds: &seconds, Path: tokenFile}},
		}}}},
		{Name: runVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: quantity("1Mi")}}},
	}
}

func quantity(s string) *resource.Quantity {
	q := resource.MustParse(s)
	return &q
}

// captureContainer sets the redirect before anything else in the pod runs. It is the one container that may touch the network's rules, and it is gone when the others start.
func captureContainer(p *corev1.Pod, c Config) corev1.Container {
	args := []string{"capture"}
	if ports := excludedPorts(p); ports != "" {
		args = append(args, "--exclude-inbound-ports", ports)
	}
	root, yes, no := int64(0), true, false
	return corev1.Container{
		Name: CaptureContainer, Image: c.Image, Args: args,
		Resources: resources("10m", "32Mi", "128Mi"),
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: &root, RunAsGroup: &root, RunAsNonRoot: &no, ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no, Privileged: &no,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

// keepFilledIn keeps what the namespace's LimitRange gave to the containers of an earlier injection where they leave it open: a quota may want it, and the API server
// fills it in before the injector is called again, not after.
func keepFilledIn(ours []corev1.Container, in *corev1.Pod) {
	if !isInjected(in) {
		return
	}
	for i := range ours {
		for j := range in.Spec.InitContainers {
			if before := &in.Spec.InitContainers[j]; before.Name == ours[i].Name {
				addMissing(ours[i].Resources.Limits, before.Resources.Limits)
				addMissing(ours[i].Resources.Requests, before.Resources.Requests)
			}
		}
	}
}

func addMissing(to, from corev1.ResourceList) {
	for name, quantity := range from {
		if _, set := to[name]; !set {
			to[name] = quantity
		}
	}
}

// excludedPorts are the words of the annotation, as they are written but for the spaces around them.
func excludedPorts(p *corev1.Pod) string {
	words := strings.Split(p.Annotations[v1alpha1.AnnotationExcludeInboundPorts], ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	return strings.Join(words, ",")
}

func resources(cpu, memory, limit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)},
	}
}

// proxyContainer is a native sidecar: it starts before the application, and the application starts once it is ready; it stops after it.
func proxyContainer(c Config, probes []bootstrap.Probe) (corev1.Container, error) {
	b, err := bootstrap.BuildSidecar(bootstrap.Sidecar{
		Server: c.Server, ServerName: c.ServerName, CABundle: c.CABundle, TokenPath: tokenDir + "/" + tokenFile, AdminPath: runDir + "/admin.sock",
		Probes: probes, IPv6: c.IPv6,
	})
	if err != nil {
		return corev1.Container{}, err
	}
	args, err := bootstrap.Args(b)
	if err != nil {
		return corev1.Container{}, err
	}
	always := corev1.ContainerRestartPolicyAlways
	user, yes, no := ProxyUser, true, false
	return corev1.Container{
		Name: ProxyContainer, Image: c.SidecarImage, Args: args, RestartPolicy: &always,
		Env:          []corev1.EnvVar{fromField("POD_NAME", "metadata.name"), fromField("POD_NAMESPACE", "metadata.namespace"), fromField("POD_IP", "status.podIP")},
		StartupProbe: startupProbe(),
		Resources:    resources("20m", "96Mi", "768Mi"),
		VolumeMounts: []corev1.VolumeMount{{Name: tokenVolume, MountPath: tokenDir, ReadOnly: true}, {Name: runVolume, MountPath: runDir}},
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: &user, RunAsGroup: &user, RunAsNonRoot: &yes, ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no, Privileged: &no,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}, nil
}

func fromField(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}
