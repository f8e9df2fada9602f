package check

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Callee is one end of a call that is asked about, and the port that arrives there.
type Callee struct {
	eval.Party
	Port     uint16
	Protocol model.Protocol
}

// SpeaksHTTP says whether the callee's port speaks HTTP, so that a call to it is a request.
func (c Callee) SpeaksHTTP() bool {
	if c.Workload == nil || c.Protocol != model.TCP {
		return false
	}
	p, _ := c.Workload.Port(c.Port)
	return p.Protocol == model.AppHTTP
}

// Name is how a command's user names one end: [NAMESPACE/]KIND/NAME, [NAMESPACE/]NAME or ip/ADDRESS.
type Name struct {
	Kind, Namespace, Name string
	Qualified             bool // the namespace stands in the name itself
}

// kinds are the words for kinds, and what they mean.
func kinds() map[string]string {
	return map[string]string{
		"deploy": "workload", "deployment": "workload", "sts": "workload", "statefulset": "workload", "ds": "workload", "daemonset": "workload", "job": "workload",
		"cronjob": "workload", "rs": "workload", "replicaset": "workload", "pod": "pod", "po": "pod", "svc": "service", "service": "service",
		"sa": "account", "serviceaccount": "account", "ip": "address",
	}
}

// ParseName reads a name; without a namespace it is of the given one.
func ParseName(text, namespace string) (Name, error) {
	known := kinds()
	if rest, isAddress := strings.CutPrefix(text, "ip/"); isAddress {
		return Name{Kind: "address", Name: strings.Trim(rest, "[]")}, nil
	}
	parts := strings.Split(text, "/")
	if slices.Contains(parts, "") || len(parts) > 3 {
		return Name{}, fmt.Errorf("%q names nobody: write KIND/NAME, NAMESPACE/NAME or NAMESPACE/KIND/NAME; kinds are %s", text, kindWords())
	}
	n := Name{Namespace: namespace, Name: parts[len(parts)-1]}
	switch len(parts) {
	case 2:
		if kind, isKind := known[parts[0]]; isKind {
			n.Kind = kind
		} else {
			n.Namespace, n.Qualified = parts[0], true
		}
	case 3:
		kind, isKind := known[parts[1]]
		if !isKind {
			return Name{}, fmt.Errorf("%q: %s is no kind; kinds are %s", text, parts[1], kindWords())
		}
		n.Namespace, n.Kind, n.Qualified = parts[0], kind, true
	}
	return n, nil
}

func kindWords() string { return strings.Join(slices.Sorted(maps.Keys(kinds())), ", ") }

// Callers are the pods that a name means as callers, one of each workload; or an address.
func (w *World) Callers(text, namespace string) ([]eval.Party, error) {
	n, err := ParseName(text, namespace)
	if err != nil {
		return nil, err
	}
	if n.Kind == "service" {
		return nil, fmt.Errorf("%q: a Service calls nobody: name its pods, as deploy/NAME", text)
	}
	return w.parties(n, text)
}

func (w *World) parties(n Name, text string) ([]eval.Party, error) {
	if n.Kind == "address" {
		a, err := netip.ParseAddr(n.Name)
		if err != nil {
			return nil, fmt.Errorf("%q: %q is no IP address", text, n.Name)
		}
		return []eval.Party{eval.PartyAt(w.ix, a)}, nil
	}
	var out []eval.Party
	for _, workload := range w.ix.InNamespace(n.Namespace) {
		switch n.Kind {
		case "account":
			if workload.ServiceAccount == n.Name {
				out = append(out, eval.WorkloadParty(w.ix, workload))
			}
			continue
		case "", "workload":
			if workload.Name == n.Name {
				out = append(out, eval.WorkloadParty(w.ix, workload))
				continue
			}
		}
		for _, p := range workload.Pods {
			if n.Kind != "workload" && p.Name == n.Name && !p.Template {
				out = append(out, eval.PodParty(w.ix, p))
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q: there is no such %s in namespace %s; %s", text, kindName(n.Kind), n.Namespace, w.known(n))
	}
	return out, nil
}

func kindName(kind string) string {
	switch kind {
	case "":
		return "workload or pod"
	case "account":
		return "account that pods run as"
	}
	return kind
}

// known tells what a name's namespace has of that kind.
func (w *World) known(n Name) string {
	const most = 10
	var names []string
	for _, workload := range w.ix.InNamespace(n.Namespace) {
		if n.Kind == "account" {
			names = append(names, workload.ServiceAccount)
		} else {
			names = append(names, workload.Name)
		}
	}
	if n.Kind == "service" {
		names = nil
		for _, s := range w.ix.Snapshot.Services {
			if s.Namespace == n.Namespace {
				names = append(names, s.Name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case len(names) == 0 && n.Kind == "service":
		return "there is none at all: name its pods, as deploy/NAME"
	case len(names) == 0 && n.Qualified:
		return "nothing runs there: correct the namespace in the name"
	case len(names) == 0:
		return "nothing runs there: name another namespace with -n"
	case len(names) > most:
		names = append(names[:most], "...")
	}
	what := ""
	if n.Kind == "pod" {
		what = "workloads " // whose pods may not have been made
	}
	return "there are " + what + strings.Join(names, ", ")
}

// Callees are the pods that a name with a port means, as NAME:PORT or NAME:PORT/PROTOCOL, one of each workload, and the host that their callers would ask for.
func (w *World) Callees(text, namespace string) (callees []Callee, host string, err error) {
	rest, port, protocol, err := splitPort(text)
	if err != nil {
		return nil, "", err
	}
	n, err := ParseName(rest, namespace)
	if err != nil {
		return nil, "", err
	}
	if n.Kind == "service" {
		return w.service(n, text, port, protocol)
	}
	parties, err := w.parties(n, text)
	if err != nil {
		return nil, "", err
	}
	for _, p := range parties {
		numbers, err := w.portsOf(p, port, protocol)
		if err != nil {
			return nil, "", fmt.Errorf("%q: %w", text, err)
		}
		for _, number := range numbers {
			callees = append(callees, Callee{p, number, protocol})
		}
	}
	return callees, n.Name, nil
}

// splitPort takes the port and its protocol off a name; a port that is not written is "".
func splitPort(text string) (name, port string, protocol model.Protocol, err error) {
	name, protocol = text, model.TCP
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.Contains(text[i:], "]") && (!strings.HasPrefix(text, "ip/") || strings.Count(text, ":") == 1 || strings.Contains(text[:i], "]")) {
		name, port = text[:i], text[i+1:]
	}
	if number, word, found := strings.Cut(port, "/"); found {
		port, protocol = number, model.Protocol(strings.ToUpper(word))
	}
	if !slices.Contains([]model.Protocol{model.TCP, model.UDP, model.SCTP}, protocol) {
		return "", "", "", fmt.Errorf("%q: %s is no protocol: write tcp, udp or sctp", text, protocol)
	}
	return name, port, protocol, nil
}

// portsOf are the numbers that a port's name or number means in a pod; where none is written, the only port that it has.
func (w *World) portsOf(p eval.Party, port string, protocol model.Protocol) ([]uint16, error) {
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
			return []uint16{uint16(n)}, nil
		}
	}
	switch {
	case p.Pod == nil && port == "":
		return nil, errors.New("the port is missing: write ip/ADDRESS:PORT, an IPv6 address in brackets")
	case p.Pod == nil:
		return nil, fmt.Errorf("%q is no port of an address: write a number from 1 to 65535", port)
	}
	var numbers []uint16
	var words []string
	add := func(name string, number uint16) {
		words = append(words, strings.TrimSuffix(portText(number)+" "+name, " "))
		if port == "" || port == name {
			numbers = append(numbers, number)
		}
	}
	if protocol == model.TCP && p.Workload != nil {
		for _, wp := range p.Workload.Ports {
			add(wp.Name, wp.Number)
		}
	} else {
		for _, c := range p.Pod.Ports {
			if c.Protocol == protocol {
				add(c.Name, c.Number)
			}
		}
	}
	switch {
	case len(numbers) == 1, port != "" && len(numbers) > 1:
		return numbers, nil
	case len(words) == 0:
		return nil, fmt.Errorf("%s declares no port: write which, as %s:8080", p, p)
	case port == "":
		return nil, fmt.Errorf("%s has several ports: write which, of %s", p, strings.Join(words, ", "))
	}
	return nil, fmt.Errorf("%s has no port %q: it has %s", p, port, strings.Join(words, ", "))
}

// service finds the pods that a Service leads to, and where its port arrives in each.
func (w *World) service(n Name, text, port string, protocol model.Protocol) (callees []Callee, host string, err error) {
	services := w.ix.Snapshot.Services
	i := slices.IndexFunc(services, func(s model.Service) bool { return s.Namespace == n.Namespace && s.Name == n.Name })
	if i < 0 {
		return nil, "", fmt.Errorf("%q: there is no Service %s in namespace %s; %s", text, n.Name, n.Namespace, w.known(n))
	}
	s := &services[i]
	q, err := servicePort(s, port, protocol)
	if err != nil {
		return nil, "", fmt.Errorf("%q: %w", text, err)
	}
	for _, workload := range w.ix.InNamespace(s.Namespace) {
		if len(s.Selector) == 0 || !labels.SelectorFromSet(s.Selector).Matches(labels.Set(workload.Labels)) {
			continue
		}
		p := eval.WorkloadParty(w.ix, workload)
		number := q.TargetPort
		for _, c := range p.Pod.Ports {
			if q.TargetName != "" && c.Name == q.TargetName && c.Protocol == q.Protocol {
				number = c.Number
			}
		}
		if number != 0 {
			callees = append(callees, Callee{p, number, q.Protocol})
		}
	}
	if len(callees) == 0 {
		return nil, "", fmt.Errorf("%q: Service %s/%s leads to no pod", text, s.Namespace, s.Name)
	}
	const web = 80
	if host = s.Name; q.Port != web {
		host += ":" + portText(q.Port)
	}
	return callees, host, nil
}

func servicePort(s *model.Service, port string, protocol model.Protocol) (*model.ServicePort, error) {
	var meant []*model.ServicePort
	var words []string
	for i := range s.Ports {
		q := &s.Ports[i]
		words = append(words, strings.TrimSuffix(portText(q.Port)+" "+q.Name, " "))
		if port == "" || q.Protocol == protocol && (portText(q.Port) == port || q.Name == port) {
			meant = append(meant, q)
		}
	}
	switch {
	case len(meant) == 1:
		return meant[0], nil
	case len(words) == 0:
		return nil, fmt.Errorf("its Service %s/%s has no ports", s.Namespace, s.Name)
	case port == "":
		return nil, fmt.Errorf("its Service %s/%s has several ports: write which, of %s", s.Namespace, s.Name, strings.Join(words, ", "))
	}
	return nil, fmt.Errorf("its Service %s/%s has no port %q: it has %s", s.Namespace, s.Name, port, strings.Join(words, ", "))
}
