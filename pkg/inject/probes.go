package inject

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// startupProbe holds the application back until the sidecar's first configuration is complete. It never gives up: a sidecar that waits for its control plane is not
// mended by a restart, and a pod that waits is shut.
func startupProbe() *corev1.Probe {
	const forever = 1 << 20
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: bootstrap.ReadyPath, Port: intstr.FromInt32(int32(bootstrap.HealthPort)), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds:    1,
		TimeoutSeconds:   1,
		SuccessThreshold: 1,
		FailureThreshold: forever,
	}
}

// rewriteProbes points the kubelet's probes at the sidecar, which asks the application itself: under a policy that denies everything they work, and through the
// sidecar alone they would prove nothing, since it accepts connections whether the application does or not. What they were is kept in an annotation.
func rewriteProbes(p *corev1.Pod, r *refusals) []bootstrap.Probe {
	w := &probeWriter{refusals: r, written: map[string]corev1.ProbeHandler{}}
	for i := range p.Spec.InitContainers {
		w.container(fmt.Sprintf("spec.initContainers[%d]", i), &p.Spec.InitContainers[i])
	}
	for i := range p.Spec.Containers {
		w.container(fmt.Sprintf("spec.containers[%d]", i), &p.Spec.Containers[i])
	}
	if len(w.written) == 0 {
		return nil
	}
	// What the author wrote, so that a second injection starts from it.
	body, err := json.Marshal(w.written)
	if err != nil {
		r.refuse("spec", "the probes cannot be written down: "+err.Error(), "correct the pod's probes")
		return nil
	}
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[v1alpha1.AnnotationProbes] = string(body)
	return w.probes
}

type probeWriter struct {
	*refusals
	probes  []bootstrap.Probe
	written map[string]corev1.ProbeHandler // by the probe's name
}

func (w *probeWriter) container(field string, c *corev1.Container) {
	for _, k := range probesOf(c) {
		if k.probe == nil {
			continue
		}
		at := field + "." + k.kind + "Probe"
		converted, ok := convertProbe(c, probeName(c, k.kind), k.probe)
		switch err := converted.Check(); {
		case !ok:
			continue
		case reserved(int32(converted.Port)):
			w.refuse(at, reservedPorts()+", and their probes are none of the application", "probe a port of the application's own")
			continue
		case err != nil:
			w.refuse(at, err.Error(), "correct the probe")
			continue
		}
		w.written[converted.Name] = k.probe.ProbeHandler
		w.probes = append(w.probes, converted)
		k.probe.ProbeHandler = answeredBySidecar(converted.Name)
	}
	w.hooks(field, c)
}

func probeName(c *corev1.Container, kind string) string { return c.Name + "/" + kind }

// answeredBySidecar is what the kubelet asks in a probe's place.
func answeredBySidecar(name string) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: bootstrap.ProbePath(name), Port: intstr.FromInt32(int32(bootstrap.HealthPort)), Scheme: corev1.URISchemeHTTP,
	}}
}

type kindOfProbe struct {
	kind  string
	probe *corev1.Probe
}

func probesOf(c *corev1.Container) []kindOfProbe {
	return []kindOfProbe{{"liveness", c.LivenessProbe}, {"readiness", c.ReadinessProbe}, {"startup", c.StartupProbe}}
}

// convertProbe reads a probe; false for one that does not come over the pod's network: a command, or a request to another host.
func convertProbe(c *corev1.Container, name string, p *corev1.Probe) (bootstrap.Probe, bool) {
	out := bootstrap.Probe{
		Name: name, Interval: time.Duration(cmp.Or(p.PeriodSeconds, 10)) * time.Second, Timeout: time.Duration(cmp.Or(p.TimeoutSeconds, 1)) * time.Second,
	}
	var port intstr.IntOrString
	switch h := p.ProbeHandler; {
	case h.HTTPGet != nil && h.HTTPGet.Host == "":
		out.Kind, out.Path, port = bootstrap.ProbeHTTP, h.HTTPGet.Path, h.HTTPGet.Port
		if !strings.HasPrefix(out.Path, "/") {
			out.Path = "/" + out.Path
		}
		if h.HTTPGet.Scheme == corev1.URISchemeHTTPS {
			out.Scheme = bootstrap.SchemeHTTPS
		}
		for _, header := range h.HTTPGet.HTTPHeaders {
			if strings.EqualFold(header.Name, "host") {
				out.Host = header.Value
				continue
			}
			out.Headers = append(out.Headers, bootstrap.ProbeHeader{Name: header.Name, Value: header.Value})
		}
	case h.TCPSocket != nil && h.TCPSocket.Host == "":
		out.Kind, port = bootstrap.ProbeTCP, h.TCPSocket.Port
	case h.GRPC != nil:
		out.Kind, port = bootstrap.ProbeGRPC, intstr.FromInt32(h.GRPC.Port)
		if h.GRPC.Service != nil {
			out.GRPCService = *h.GRPC.Service
		}
	default:
		return out, false
	}
	out.Port = portOf(c, port)
	return out, out.Port != 0
}

// portOf is a port's number; a name is one of the container's own ports. 0 where there is none: the kubelet then fails the probe, as it would without a sidecar.
func portOf(c *corev1.Container, p intstr.IntOrString) uint16 {
	n := p.IntVal
	if p.Type == intstr.String {
		n = 0
		for _, declared := range c.Ports {
			if declared.Name == p.StrVal {
				n = declared.ContainerPort
			}
		}
	}
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}

// hooks tells of what the kubelet sends to the application's port and policies may deny.
func (w *probeWriter) hooks(field string, c *corev1.Container) {
	if c.Lifecycle == nil {
		return
	}
	hooks := []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop}
	for i, name := range []string{"postStart", "preStop"} {
		h := hooks[i]
		if h == nil || (h.HTTPGet == nil || h.HTTPGet.Host != "") && (h.TCPSocket == nil || h.TCPSocket.Host != "") {
			continue
		}
		w.notices = append(w.notices, model.Diagnostic{
			Code: "hook-over-network", Severity: model.SeverityWarning, Object: w.object, Field: field + ".lifecycle." + name,
			Consequence: "the kubelet's request passes through the sidecar, and is denied where policies isolate the pod", Remedy: "write the hook as a command (exec) or a sleep",
		})
	}
}

// restoreProbes puts back what rewriteProbes replaced. A probe that somebody else has written since stays as it is. Where the annotation is lost, the probes go on asking
// the sidecar, and are refused for that: what the author meant nobody knows.
func restoreProbes(p *corev1.Pod) {
	written := map[string]corev1.ProbeHandler{}
	if err := json.Unmarshal([]byte(p.Annotations[v1alpha1.AnnotationProbes]), &written); err != nil {
		return
	}
	restore := func(containers []corev1.Container) {
		for i := range containers {
			for _, k := range probesOf(&containers[i]) {
				name := probeName(&containers[i], k.kind)
				if h, known := written[name]; known && k.probe != nil && equality.Semantic.DeepEqual(k.probe.ProbeHandler, answeredBySidecar(name)) {
					k.probe.ProbeHandler = h
				}
			}
		}
	}
	restore(p.Spec.InitContainers)
	restore(p.Spec.Containers)
}
