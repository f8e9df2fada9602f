package translate_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// load reads the few kinds that cases are made of: Pods, Services and L7Policies.
func load(t *testing.T, path string) *model.Snapshot {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &model.Snapshot{}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var kind metav1.TypeMeta
		decode(t, document, &kind)
		switch kind.Kind {
		case "Pod":
			var pod corev1.Pod
			decode(t, document, &pod)
			s.Pods = append(s.Pods, podOf(t, &pod))
		case "Service":
			var service corev1.Service
			decode(t, document, &service)
			s.Services = append(s.Services, serviceOf(&service))
		case "L7Policy":
			var policy v1alpha1.L7Policy
			decode(t, document, &policy)
			converted, found := convert.Policy(&policy)
			s.Policies, s.Diagnostics = append(s.Policies, converted), append(s.Diagnostics, found...)
		default:
			t.Fatalf("%s: a document of kind %q", path, kind.Kind)
		}
	}
	return s
}

func decode(t *testing.T, document string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(document), into); err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
}

func podOf(t *testing.T, p *corev1.Pod) model.Pod {
	t.Helper()
	out := model.Pod{Namespace: p.Namespace, Name: p.Name, Owner: p.Name, Labels: p.Labels, ServiceAccount: p.Spec.ServiceAccountName, Expected: true}
	for _, ip := range p.Status.PodIPs {
		out.Addresses = append(out.Addresses, netip.MustParseAddr(ip.IP))
	}
	for _, port := range p.Spec.Containers[0].Ports {
		out.Ports = append(out.Ports, model.ContainerPort{Name: port.Name, Number: uint16(port.ContainerPort), Protocol: model.TCP})
	}
	for key, value := range p.Annotations {
		switch settings := &out.Proxy; key {
		case v1alpha1.AnnotationServerFirst:
			settings.ServerFirst = numbers(t, value)
		case v1alpha1.AnnotationExcludeInboundPorts:
			settings.ExcludedInbound = numbers(t, value)
		case v1alpha1.AnnotationAllowEscapedSlashes:
			settings.AllowEscapedSlashes = true
		case v1alpha1.AnnotationAllowUnderscoreHeaders:
			settings.AllowUnderscoreHeader = true
		case v1alpha1.AnnotationAllowHTTP10:
			settings.AllowHTTP10 = true
		case v1alpha1.AnnotationMaxStreamDuration:
			settings.MaxStreamDuration = 10 * time.Minute
		case v1alpha1.AnnotationBound:
			if err := json.Unmarshal([]byte(value), &settings.Bound); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("annotation %s", key)
		}
	}
	return out
}

func numbers(t *testing.T, list string) []uint16 {
	t.Helper()
	var out []uint16
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, uint16(n))
	}
	return out
}

func serviceOf(s *corev1.Service) model.Service {
	out := model.Service{Namespace: s.Namespace, Name: s.Name, Selector: s.Spec.Selector}
	for _, port := range s.Spec.Ports {
		p := model.ServicePort{
			Name: port.Name, Port: uint16(port.Port), Protocol: model.TCP, TargetPort: uint16(port.TargetPort.IntVal), TargetName: port.TargetPort.StrVal,
		}
		if port.AppProtocol != nil {
			p.AppProtocol = *port.AppProtocol
		}
		out.Ports = append(out.Ports, p)
	}
	return out
}

func marshalYAML(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(text)
}
