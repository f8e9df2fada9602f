package envoy

import (
	"fmt"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy/hcm"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Call is one attempt to reach the application behind a sidecar, in plaintext.
type Call struct {
	Source netip.Addr         // the caller's own address
	Port   uint16             // what the connection is for: behind a redirect the application's own port, else that of the sidecar's socket
	HTTP   *model.HTTPRequest // as the client sends it; nil: bytes
}

// Verdict is what a sidecar makes of a call: the decision of the first filter that denies, else of the last.
type Verdict struct {
	Decision
	Chain   string             // the filter chain that took the connection; empty where none does
	Seen    *model.HTTPRequest // the request as the filters see it; nil for bytes, and where Refusal is not
	Refusal *hcm.Refusal       // the request was refused before any filter saw it
}

// Outcomes of calls that no filter decides.
const (
	Closed  Outcome = "closed"  // no filter chain takes the connection, or one without filters: it is closed
	Refused Outcome = "refused" // the request is answered before any filter sees it
)

// Sidecar is what one proxy runs, as far as it decides about calls. Read-only; safe for concurrent use.
type Sidecar struct {
	listeners []*listener
}

type listener struct {
	port     uint16 // of its socket
	captures bool   // it takes connections for every port
	byPort   map[uint16]*chain
	other    *chain // nil: connections for other ports are closed
}

// NewSidecar reads listeners and the content of slots; other resources do not matter. A slot without content denies by its default, as in the proxy.
func NewSidecar(resources ...proto.Message) (*Sidecar, error) {
	known := &slots{contents: map[string]*corev3.TypedExtensionConfig{}, filters: map[*anypb.Any]*Filter{}}
	for _, r := range resources {
		if s, ok := r.(*corev3.TypedExtensionConfig); ok {
			known.contents[s.GetName()] = s
		}
	}
	out := &Sidecar{}
	for _, r := range resources {
		m, ok := r.(*listenerv3.Listener)
		if !ok {
			continue
		}
		l, err := readListener(m, known)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", m.GetName(), err)
		}
		out.listeners = append(out.listeners, l)
	}
	return out, nil
}

func readListener(m *listenerv3.Listener, known *slots) (*listener, error) {
	out := &listener{port: uint16(m.GetAddress().GetSocketAddress().GetPortValue()), byPort: map[uint16]*chain{}}
	for _, f := range m.GetListenerFilters() {
		if !f.GetTypedConfig().MessageIs(&originaldstv3.OriginalDst{}) {
			return nil, fmt.Errorf("listener filter %s: not evaluated", f.GetName())
		}
		out.captures = true
	}
	if m.GetDefaultFilterChain() != nil {
		out.other = readChain(m.GetDefaultFilterChain(), known)
	}
	for _, c := range m.GetFilterChains() {
		read := readChain(c, known)
		match := c.GetFilterChainMatch()
		if port := match.GetDestinationPort(); port != nil {
			out.byPort[uint16(port.GetValue())] = read
			match = proto.CloneOf(match)
			match.DestinationPort = nil
		} else {
			out.other = read
		}
		if match != nil && !proto.Equal(match, &listenerv3.FilterChainMatch{}) {
			return nil, fmt.Errorf("filter chain %s: filter_chain_match: not evaluated", c.GetName())
		}
	}
	return out, nil
}

// Decide is the verdict in force.
func (s *Sidecar) Decide(c *Call) Verdict { return s.decide(c, (*Filter).Decide) }

// Shadow is the verdict that the sidecar only tells of; of a filter without a shadow it is the one in force.
func (s *Sidecar) Shadow(c *Call) Verdict {
	return s.decide(c, func(f *Filter, r *Request) Decision {
		if d, ok := f.Shadow(r); ok {
			return d
		}
		return f.Decide(r)
	})
}

func (s *Sidecar) decide(c *Call, ask func(*Filter, *Request) Decision) Verdict {
	i := slices.IndexFunc(s.listeners, func(l *listener) bool { return l.captures || l.port == c.Port })
	if i < 0 {
		return Verdict{Decision: Decision{Outcome: Closed}}
	}
	taken := s.listeners[i].byPort[c.Port]
	if taken == nil {
		taken = s.listeners[i].other
	}
	if taken == nil {
		return Verdict{Decision: Decision{Outcome: Closed}}
	}
	out := taken.decide(c, ask)
	out.Chain = taken.name
	return out
}
