package envoy

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy/hcm"
)

// chain is the filters of a filter chain, in their order.
type chain struct {
	name    string
	filters []*Filter
	http    *hcm.Manager // nil: what comes is bytes
	closed  bool         // it has no filters
	err     error        // why it cannot be told what it does
}

func (c *chain) decide(call *Call, ask func(*Filter, *Request) Decision) Verdict {
	out := Verdict{Decision: Decision{Allowed: true, Outcome: NotEnforced}}
	r := &Request{Source: call.Source, Port: call.Port}
	switch {
	case c.err != nil:
		return Verdict{Decision: Decision{Outcome: Unknown, Err: c.err}}
	case c.closed:
		return Verdict{Decision: Decision{Outcome: Closed}}
	case c.http != nil && call.HTTP == nil:
		return Verdict{Decision: Decision{Outcome: Refused}, Refusal: hcm.NotHTTP()}
	case c.http != nil:
		if out.Seen, out.Refusal = c.http.Arrive(call.Source, false, call.HTTP); out.Refusal != nil {
			return Verdict{Decision: Decision{Outcome: Refused}, Refusal: out.Refusal}
		}
		r.HTTP, r.PlainSegments = out.Seen, c.http.PlainSegments()
	}
	for _, f := range c.filters {
		if out.Decision = ask(f, r); !out.Allowed {
			break
		}
	}
	return out
}

// slots are the contents of slots by name, and the filters that stand in them.
type slots struct {
	contents map[string]*corev3.TypedExtensionConfig
	filters  map[*anypb.Any]*Filter // one stands in many chains
}

// readChain keeps what it cannot read as the chain's error: it concerns those only whose connections the chain takes.
func readChain(m *listenerv3.FilterChain, known *slots) *chain {
	out := &chain{name: m.GetName(), closed: len(m.GetFilters()) == 0}
	if m.GetTransportSocket() != nil {
		out.err = fmt.Errorf("filter chain %s: transport_socket: not evaluated", m.GetName())
	}
	for _, f := range m.GetFilters() {
		config, err := known.content(f.GetName(), f.GetTypedConfig(), f.GetConfigDiscovery())
		if err == nil {
			err = out.add(config, known)
		}
		if err != nil && out.err == nil {
			out.err = fmt.Errorf("filter chain %s: filter %s: %w", m.GetName(), f.GetName(), err)
		}
	}
	return out
}

// content is a filter's configuration: its own, or that of the slot that it names, or that slot's default.
func (s *slots) content(name string, own *anypb.Any, slot *corev3.ExtensionConfigSource) (*anypb.Any, error) {
	switch {
	case slot == nil:
		return own, nil
	case s.contents[name] != nil:
		return s.contents[name].GetTypedConfig(), nil
	case slot.GetDefaultConfig() != nil:
		return slot.GetDefaultConfig(), nil
	}
	return nil, errors.New("a slot without content and without a default")
}

func (s *slots) filter(config *anypb.Any) (*Filter, error) {
	if f := s.filters[config]; f != nil {
		return f, nil
	}
	f, err := Unpack(config)
	if err == nil {
		s.filters[config] = f
	}
	return f, err
}

// add reads a network filter.
func (c *chain) add(config *anypb.Any, known *slots) error {
	manager := &hcmv3.HttpConnectionManager{}
	switch {
	case config.MessageIs(&networkrbacv3.RBAC{}):
		f, err := known.filter(config)
		if err != nil {
			return err
		}
		c.filters = append(c.filters, f)
		return nil
	case config.MessageIs(&tcpproxyv3.TcpProxy{}):
		return nil
	case config.MessageIs(manager):
		if err := config.UnmarshalTo(manager); err != nil {
			return fmt.Errorf("read the http connection manager: %w", err)
		}
		return c.addHTTP(manager, known)
	}
	return fmt.Errorf("%s: not evaluated", config.GetTypeUrl())
}

func (c *chain) addHTTP(m *hcmv3.HttpConnectionManager, known *slots) error {
	var err error
	if c.http, err = hcm.New(m); err != nil {
		return err
	}
	if overrides(m.GetRouteConfig()) {
		return errors.New("typed_per_filter_config of routes: not evaluated")
	}
	for _, f := range m.GetHttpFilters() {
		config, err := known.content(f.GetName(), f.GetTypedConfig(), f.GetConfigDiscovery())
		switch {
		case err != nil:
			return fmt.Errorf("http filter %s: %w", f.GetName(), err)
		case f.GetDisabled():
			return fmt.Errorf("http filter %s: disabled: not evaluated", f.GetName())
		case config.MessageIs(&routerv3.Router{}):
			return nil
		}
		filter, err := known.filter(config)
		if err != nil {
			return fmt.Errorf("http filter %s: %w", f.GetName(), err)
		}
		c.filters = append(c.filters, filter)
	}
	return nil
}

// overrides says whether any route changes filters.
func overrides(m *routev3.RouteConfiguration) bool {
	n := len(m.GetTypedPerFilterConfig())
	for _, h := range m.GetVirtualHosts() {
		n += len(h.GetTypedPerFilterConfig())
		for _, r := range h.GetRoutes() {
			n += len(r.GetTypedPerFilterConfig()) + len(r.GetRoute().GetWeightedClusters().GetClusters())
		}
	}
	return n > 0
}
