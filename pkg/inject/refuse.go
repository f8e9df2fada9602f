package inject

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// refusals are the reasons why a pod must not run as it is written: each would be a way around the sidecar, or would void what it promises. The admission policies of
// manifests/admission refuse the same where they can; testdata/verdicts holds both against one table.
type refusals struct {
	object  model.ObjectRef
	config  *Config
	found   []model.Diagnostic
	notices []model.Diagnostic
}

func (r *refusals) refuse(field, why, remedy string) {
	r.found = append(r.found, refusal(r.object, field, why, remedy))
}

func (r *refusals) check(p *corev1.Pod) {
	r.pod(p)
	r.security(p.Spec.SecurityContext)
	names := map[string]bool{}
	for i := range p.Spec.InitContainers {
		r.container(fmt.Sprintf("spec.initContainers[%d]", i), &p.Spec.InitContainers[i], names)
	}
	for i := range p.Spec.Containers {
		r.container(fmt.Sprintf("spec.containers[%d]", i), &p.Spec.Containers[i], names)
	}
	for i := range p.Spec.EphemeralContainers {
		c := corev1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		r.container(fmt.Sprintf("spec.ephemeralContainers[%d]", i), &c, names)
	}
	names = map[string]bool{}
	for i := range p.Spec.Volumes {
		r.volume(fmt.Sprintf("spec.volumes[%d]", i), &p.Spec.Volumes[i], names)
	}
	r.annotations(p)
	r.dns(&p.Spec)
}

// once refuses what has no name, or one that is there already: the API server would as well, and neither containers nor their probes could be told apart.
func (r *refusals) once(field, name string, names map[string]bool) {
	switch {
	case name == "":
		r.refuse(field+".name", "it has no name", "give it one")
	case names[name]:
		r.refuse(field+".name", fmt.Sprintf("the name %q is there already", name), "give it a name of its own")
	}
	names[name] = true
}

// annotations are refused where the control plane would not understand them, and where the pod could not start with them.
func (r *refusals) annotations(p *corev1.Pod) {
	converted, found := convert.Pod(p)
	for _, d := range found {
		if d.Code == convert.CodeBadAnnotation {
			r.refuse(d.Field, strings.TrimSuffix(d.Consequence, convert.BadAnnotationEffect), d.Remedy)
			continue
		}
		d.Object = r.object
		r.notices = append(r.notices, d)
	}
	for _, port := range converted.Proxy.ExcludedInbound {
		if reserved(int32(port)) {
			r.refuse("metadata.annotations["+v1alpha1.AnnotationExcludeInboundPorts+"]", reservedPorts()+", and cannot be left alone", fmt.Sprintf("remove %d", port))
		}
	}
	if p.Annotations[v1alpha1.AnnotationBound] != "" {
		r.refuse("metadata.annotations["+v1alpha1.AnnotationBound+"]", "the sockets of an injected pod's sidecar are not its author's to choose", "remove the annotation")
	}
}

// dns warns where the sidecar's name servers may not know the control plane. The pod would wait for it, and not start.
func (r *refusals) dns(s *corev1.PodSpec) {
	if s.DNSPolicy != corev1.DNSDefault && s.DNSPolicy != corev1.DNSNone {
		return
	}
	host, _, err := net.SplitHostPort(r.config.Server)
	if _, isName := netip.ParseAddr(host); err != nil || isName == nil {
		return
	}
	r.notices = append(r.notices, model.Diagnostic{
		Code: "dns-without-cluster", Severity: model.SeverityWarning, Object: r.object, Field: "spec.dnsPolicy",
		Consequence: fmt.Sprintf("the sidecar asks the pod's name servers for %s; while they do not know it, the application does not start", host),
		Remedy:      "write ClusterFirst, or name a server in spec.dnsConfig that knows the cluster's Services",
	})
}

func reserved(port int32) bool {
	return port >= int32(model.ReservedFirst) && port <= int32(model.ReservedLast)
}

func reservedPorts() string {
	return fmt.Sprintf("ports %d to %d are the sidecar's", model.ReservedFirst, model.ReservedLast)
}

func (r *refusals) pod(p *corev1.Pod) {
	s := &p.Spec
	if s.HostNetwork {
		r.refuse("spec.hostNetwork", "the node's network is not the pod's: nothing can be captured there, and callers cannot be told from the node",
			"remove hostNetwork, or run the pod in a namespace without injection")
	}
	if s.HostPID {
		r.refuse("spec.hostPID", "the pod could reach into every process of the node, its own sidecar's among them", "remove hostPID")
	}
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace {
		r.refuse("spec.shareProcessNamespace", "the application could reach into its sidecar's process", "remove shareProcessNamespace")
	}
	if s.OS != nil && s.OS.Name != corev1.Linux {
		r.refuse("spec.os.name", fmt.Sprintf("the sidecar runs on Linux, not on %s", s.OS.Name), "run the pod in a namespace without injection")
	}
}

// security looks at what holds for every container of the pod.
func (r *refusals) security(c *corev1.PodSecurityContext) {
	if c == nil {
		return
	}
	const field = "spec.securityContext"
	r.identity(field, c.RunAsUser, c.RunAsGroup)
	if c.FSGroup != nil && *c.FSGroup == ProxyUser {
		r.refuse(field+".fsGroup", fmt.Sprintf("group %d is the sidecar's", ProxyUser), "choose another group")
	}
	if slices.Contains(c.SupplementalGroups, ProxyUser) {
		r.refuse(field+".supplementalGroups", fmt.Sprintf("group %d is the sidecar's", ProxyUser), "remove it from the list")
	}
	for i, sysctl := range c.Sysctls {
		// It may be written with slashes in place of the dots.
		if strings.Contains(sysctl.Name, "route_localnet") {
			r.refuse(fmt.Sprintf("%s.sysctls[%d]", field, i), "it lets others reach what listens on loopback", "remove it")
		}
	}
	if w := c.WindowsOptions; w != nil && w.HostProcess != nil && *w.HostProcess {
		r.refuse(field+".windowsOptions.hostProcess", "a host process is in no pod", "run the pod in a namespace without injection")
	}
}

func (r *refusals) identity(field string, user, group *int64) {
	if user != nil && *user == ProxyUser {
		r.refuse(field+".runAsUser", fmt.Sprintf("user %d is the sidecar's", ProxyUser), "choose another user")
	}
	if group != nil && *group == ProxyUser {
		r.refuse(field+".runAsGroup", fmt.Sprintf("group %d is the sidecar's", ProxyUser), "choose another group")
	}
}

// dangerousCapabilities let a container undo the capture, forge addresses, or reach into the sidecar, through the node's memory or files if need be.
func dangerousCapabilities() []corev1.Capability {
	return []corev1.Capability{"ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "DAC_READ_SEARCH", "PERFMON", "BPF"}
}

func (r *refusals) container(field string, c *corev1.Container, names map[string]bool) {
	r.once(field, c.Name, names)
	if isOurs(c.Name) {
		r.refuse(field+".name", c.Name+" is a name that the injector gives", "rename the container")
	}
	for i, m := range c.VolumeMounts {
		if isOurs(m.Name) {
			r.refuse(fmt.Sprintf("%s.volumeMounts[%d]", field, i), fmt.Sprintf("the volume %s is the sidecar's own", m.Name), "remove the mount")
		}
	}
	for i, p := range c.Ports {
		if reserved(p.ContainerPort) {
			r.refuse(fmt.Sprintf("%s.ports[%d].containerPort", field, i), reservedPorts(), "choose another port")
		}
	}
	s := c.SecurityContext
	if s == nil {
		return
	}
	field += ".securityContext"
	if s.Privileged != nil && *s.Privileged {
		r.refuse(field+".privileged", "a privileged container can undo the capture", "remove privileged, or run the pod in a namespace without injection")
	}
	r.identity(field, s.RunAsUser, s.RunAsGroup)
	if s.Capabilities == nil {
		return
	}
	for i, added := range s.Capabilities.Add {
		if bare := strings.TrimPrefix(strings.ToUpper(string(added)), "CAP_"); slices.Contains(dangerousCapabilities(), corev1.Capability(bare)) {
			r.refuse(fmt.Sprintf("%s.capabilities.add[%d]", field, i), fmt.Sprintf("with %s a container can get around the sidecar", bare), "remove the capability")
		}
	}
}

// reach are the node's folders and sockets through which the sidecars of all its pods can be reached: where the kubelet keeps pods' volumes, with the sidecars' sockets and
// tokens among them; where processes and network namespaces are to be seen; and where container runtimes listen and keep containers' files.
func reach() []string {
	return []string{
		"/var/lib/kubelet/", "/proc/", "/run/netns/", "/var/run/netns/",
		"/run/containerd/", "/var/run/containerd/", "/var/lib/containerd/",
		"/run/crio/", "/var/run/crio/", "/var/lib/containers/",
		"/run/docker.sock/", "/var/run/docker.sock/", "/var/lib/docker/",
		"/run/k3s/", "/var/run/k3s/", "/var/lib/rancher/",
	}
}

func (r *refusals) volume(field string, v *corev1.Volume, names map[string]bool) {
	r.once(field, v.Name, names)
	if isOurs(v.Name) {
		r.refuse(field+".name", v.Name+" is a name that the injector gives", "rename the volume")
	}
	if v.HostPath != nil {
		folder := strings.TrimSuffix(path.Clean("/"+v.HostPath.Path), "/") + "/"
		if slices.ContainsFunc(reach(), func(to string) bool { return strings.HasPrefix(folder, to) || strings.HasPrefix(to, folder) }) {
			r.refuse(field+".hostPath.path", v.HostPath.Path+" reaches the sidecars of every pod of the node", "mount a narrower folder, or run the pod in a namespace without injection")
		}
	}
	if v.Projected == nil {
		return
	}
	for i, source := range v.Projected.Sources {
		if t := source.ServiceAccountToken; t != nil && t.Audience == r.config.Audience {
			r.refuse(fmt.Sprintf("%s.projected.sources[%d].serviceAccountToken.audience", field, i), "a container with a token for the control plane could pose as its sidecar", "ask for another audience")
		}
	}
}
