package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// refusals are the reasons why a pod must not run as it is written: each would be a way around the sidecar, or would void what it promises.
type refusals struct {
	object  model.ObjectRef
	found   []model.Diagnostic
	notices []model.Diagnostic
}

func (r *refusals) refuse(field, why, remedy string) { r.found = append(r.found, refusal(r.object, field, why, remedy)) }

func (r *refusals) check(p *corev1.Pod) {
	r.pod(p)
	for i := range p.Spec.InitContainers {
		r.container(fmt.Sprintf("spec.initContainers[%d]", i), &p.Spec.InitContainers[i])
	}
	for i := range p.Spec.Containers {
		r.container(fmt.Sprintf("spec.containers[%d]", i), &p.Spec.Containers[i])
	}
	for i := range p.Spec.EphemeralContainers {
		c := corev1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		r.container(fmt.Sprintf("spec.ephemeralContainers[%d]", i), &c)
	}
	r.volumes(p)
	_, found := convert.Pod(p)
	for _, d := range found {
		if d.Code == "bad-annotation" {
			d.Object = r.object
			r.found = append(r.found, d)
			continue
		}
		r.notices = append(r.notices, d)
	}
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
	c := s.SecurityContext
	if c == nil {
		return
	}
	if c.RunAsUser != nil && *c.RunAsUser == ProxyUser {
		r.refuse("spec.securityContext.runAsUser", fmt.Sprintf("user %d is the sidecar's", ProxyUser), "choose another user")
	}
	if c.RunAsGroup != nil && *c.RunAsGroup == ProxyUser {
		r.refuse("spec.securityContext.runAsGroup", fmt.Sprintf("group %d is the sidecar's", ProxyUser), "choose another group")
	}
	if c.FSGroup != nil && *c.FSGroup == ProxyUser {
		r.refuse("spec.securityContext.fsGroup", fmt.Sprintf("group %d is the sidecar's", ProxyUser), "choose another group")
	}
	if slices.Contains(c.SupplementalGroups, ProxyUser) {
		r.refuse("spec.securityContext.supplementalGroups", fmt.Sprintf("group %d is the sidecar's", ProxyUser), "remove it from the list")
	}
	for i, sysctl := range c.Sysctls {
		if strings.HasPrefix(sysctl.Name, "net.") && strings.Contains(sysctl.Name, "route_localnet") {
			r.refuse(fmt.Sprintf("spec.securityContext.sysctls[%d]", i), "it lets others reach what listens on loopback", "remove it")
		}
	}
}

// dangerousCapabilities let a container undo the capture, forge addresses, or reach into the sidecar.
func dangerousCapabilities() []corev1.Capability {
	return []corev1.Capability{"ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "BPF"}
}

func (r *refusals) container(field string, c *corev1.Container) {
	if c.Name == CaptureContainer || c.Name == ProxyContainer {
		r.refuse(field+".name", fmt.Sprintf("%s is the name of a container that the injector adds", c.Name), "rename the container")
	}
	for i, m := range c.VolumeMounts {
		if m.Name == tokenVolume || m.Name == runVolume {
			r.refuse(fmt.Sprintf("%s.volumeMounts[%d]", field, i), fmt.Sprintf("the volume %s is the sidecar's own", m.Name), "remove the mount")
		}
	}
	for i, p := range c.Ports {
		if n := p.ContainerPort; n >= int32(model.ReservedFirst) && n <= int32(model.ReservedLast) {
			r.refuse(fmt.Sprintf("%s.ports[%d].containerPort", field, i), fmt.Sprintf("ports %d to %d are the sidecar's", model.ReservedFirst, model.ReservedLast), "choose another port")
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
	if s.RunAsUser != nil && *s.RunAsUser == ProxyUser {
		r.refuse(field+".runAsUser", fmt.Sprintf("user %d is the sidecar's", ProxyUser), "choose another user")
	}
	if s.RunAsGroup != nil && *s.RunAsGroup == ProxyUser {
		r.refuse(field+".runAsGroup", fmt.Sprintf("group %d is the sidecar's", ProxyUser), "choose another group")
	}
	if s.Capabilities == nil {
		return
	}
	for i, added := range s.Capabilities.Add {
		if bare := strings.TrimPrefix(strings.ToUpper(string(added)), "CAP_"); slices.Contains(dangerousCapabilities(), corev1.Capability(bare)) {
			r.refuse(fmt.Sprintf("%s.capabilities.add[%d]", field, i), fmt.Sprintf("with %s a container can get around the sidecar", bare), "remove the capability")
		}
	}
}

func (r *refusals) volumes(p *corev1.Pod) {
	for i, v := range p.Spec.Volumes {
		field := fmt.Sprintf("spec.volumes[%d]", i)
		if v.Name == tokenVolume || v.Name == runVolume {
			r.refuse(field+".name", fmt.Sprintf("%s is the name of a volume that the injector adds", v.Name), "rename the volume")
		}
		if v.HostPath == nil {
			continue
		}
		// Pods' volumes, the sidecars' sockets and tokens among them, lie under the kubelet's folder.
		path := "/" + strings.Trim(v.HostPath.Path, "/") + "/"
		for _, reach := range []string{"/var/lib/kubelet/", "/proc/", "/run/containerd/", "/var/run/containerd/", "/run/crio/", "/var/run/crio/", "/var/run/docker.sock/", "/run/docker.sock/"} {
			if strings.HasPrefix(path, reach) || strings.HasPrefix(reach, path) {
				r.refuse(field+".hostPath.path", fmt.Sprintf("%s reaches the sidecars of every pod of the node", v.HostPath.Path), "mount a narrower folder, or run the pod in a namespace without injection")
				break
			}
		}
	}
	if s := p.Spec.SecurityContext; s != nil && s.WindowsOptions != nil && s.WindowsOptions.HostProcess != nil && *s.WindowsOptions.HostProcess {
		r.refuse("spec.securityContext.windowsOptions.hostProcess", "a host process is in no pod", "run the pod in a namespace without injection")
	}
}
