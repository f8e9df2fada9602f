package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// settings reads a pod's annotations. A value that is not understood leaves the hardened default.
type settings struct {
	object model.ObjectRef
	values map[string]string
	found  []model.Diagnostic
}

func proxySettings(object model.ObjectRef, meta *metav1.ObjectMeta) (model.ProxySettings, []model.Diagnostic) {
	s := &settings{object: object, values: meta.Annotations}
	return model.ProxySettings{
		Injected:              meta.Labels[v1alpha1.LabelProxy] == v1alpha1.ProxyInjected,
		Bound:                 s.bound(v1alpha1.AnnotationBound),
		ServerFirst:           s.ports(v1alpha1.AnnotationServerFirst),
		ExcludedInbound:       s.ports(v1alpha1.AnnotationExcludeInboundPorts),
		AllowEscapedSlashes:   s.relaxation(v1alpha1.AnnotationAllowEscapedSlashes),
		AllowUnderscoreHeader: s.relaxation(v1alpha1.AnnotationAllowUnderscoreHeaders),
		AllowHTTP10:           s.relaxation(v1alpha1.AnnotationAllowHTTP10),
		MaxStreamDuration:     s.duration(v1alpha1.AnnotationMaxStreamDuration),
	}, s.found
}

// CodeBadAnnotation is the code of a finding about an annotation that is not understood, and BadAnnotationEffect the end of its consequence.
const (
	CodeBadAnnotation   = "bad-annotation"
	BadAnnotationEffect = ": the annotation has no effect, and the hardened default stands"
)

func (s *settings) bad(annotation, why, remedy string) {
	s.found = append(s.found, model.Diagnostic{
		Code: CodeBadAnnotation, Severity: model.SeverityError, Object: s.object, Field: "metadata.annotations[" + annotation + "]",
		Consequence: why + BadAnnotationEffect, Remedy: remedy,
	})
}

// relaxation is a switch that only the exact word turns.
func (s *settings) relaxation(annotation string) bool {
	switch value, written := s.values[annotation]; {
	case !written, value == "false":
		return false
	case value == "true":
		s.found = append(s.found, model.Diagnostic{
			Code: "relaxed", Severity: model.SeverityNotice, Object: s.object, Field: "metadata.annotations[" + annotation + "]",
			Consequence: "the pod's sidecar passes requests that others refuse", Remedy: "remove the annotation when the application no longer needs it",
		})
		return true
	default:
		s.bad(annotation, fmt.Sprintf("%q is neither true nor false", value), `write "true" or "false"`)
		return false
	}
}

func (s *settings) ports(annotation string) []uint16 {
	value := s.values[annotation]
	if value == "" {
		return nil
	}
	var out []uint16
	for word := range strings.SplitSeq(value, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(word), 10, 16)
		if err != nil || n == 0 {
			s.bad(annotation, fmt.Sprintf("%q is not a port", word), "write port numbers from 1 to 65535, separated by commas")
			return nil
		}
		out = append(out, uint16(n))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s *settings) duration(annotation string) time.Duration {
	value := s.values[annotation]
	if value == "" {
		return 0
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		s.bad(annotation, fmt.Sprintf("%q is not a duration above zero", value), `write a duration such as "10m" or "1h30m"`)
		return 0
	}
	return d
}

// boundPort is the annotation's form of model.BoundPort.
type boundPort struct {
	Port        uint16 `json:"port"`
	Listen      string `json:"listen"`
	Application string `json:"application"`
}

func (s *settings) bound(annotation string) []model.BoundPort {
	value := s.values[annotation]
	if value == "" {
		return nil
	}
	const remedy = `write [{"port": 80, "listen": "ADDRESS:PORT", "application": "ADDRESS:PORT"}]`
	decoder := json.NewDecoder(bytes.NewReader([]byte(value)))
	decoder.DisallowUnknownFields()
	var entries []boundPort
	if err := decoder.Decode(&entries); err != nil || decoder.More() {
		s.bad(annotation, "not a JSON list of bound ports", remedy)
		return nil
	}
	out := make([]model.BoundPort, 0, len(entries))
	for i, e := range entries {
		listen, err1 := netip.ParseAddrPort(e.Listen)
		application, err2 := netip.ParseAddrPort(e.Application)
		if err1 != nil || err2 != nil || e.Port == 0 || listen.Port() == 0 || application.Port() == 0 {
			s.bad(annotation, fmt.Sprintf("entry %d lacks a port, or a socket of the form ADDRESS:PORT", i), remedy)
			return nil
		}
		out = append(out, model.BoundPort{Port: e.Port, Listen: listen, Application: application})
	}
	return out
}

// guarded says whether an object guards. What is neither "true" nor "false" does: whoever wrote it did not mean to leave the gate open.
func guarded(meta *metav1.ObjectMeta) bool {
	value, written := meta.Annotations[v1alpha1.AnnotationGuarded]
	return written && value != "false"
}
