package translate

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// inbound is all that the inbound listeners and clusters of a workload depend on. No policy is in it: a policy edit must never change a listener.
type inbound struct {
	Bound  []model.BoundPort // bound mode, when not empty
	Chains []chain           // ascending by port
	IPv6   bool              // captured mode: callers come over IPv6, too
	HTTP   httpSettings
}

// chain is how the connections to one port are handled.
type chain struct {
	Port uint16
	Kind chainKind
}

// chainKind is what a chain does with the bytes of a connection.
type chainKind string

const (
	chainHTTP        chainKind = "http"
	chainTCP         chainKind = "tcp"
	chainServerFirst chainKind = "tcp-server-first"
)

// httpSettings are the settings of the HTTP connection manager that differ between workloads.
type httpSettings struct {
	EscapedSlashes        bool
	UnderscoreHeaders     bool
	HTTP10                bool
	MaxStreamDuration     time.Duration
	RequestHeadersTimeout time.Duration
	MaxConcurrentStreams  uint32
	MaxRequestHeadersKB   uint32
}

// Limits that stand where the mesh names none.
const (
	defaultRequestHeadersTimeout = 10 * time.Second
	defaultMaxConcurrentStreams  = 100
	defaultMaxRequestHeadersKB   = 60
)

// describe fills in what a workload's listeners depend on.
func (in *inbound) describe(w *model.Workload, mesh model.HTTPDefaults) {
	in.Bound, in.Chains, in.IPv6 = nil, in.Chains[:0], false
	in.HTTP = httpSettings{
		EscapedSlashes: w.Proxy.AllowEscapedSlashes, UnderscoreHeaders: w.Proxy.AllowUnderscoreHeader, HTTP10: w.Proxy.AllowHTTP10,
		MaxStreamDuration: w.Proxy.MaxStreamDuration, RequestHeadersTimeout: mesh.RequestHeaderTimeout,
		MaxConcurrentStreams: mesh.MaxConcurrentStreams, MaxRequestHeadersKB: mesh.MaxRequestHeadersKB,
	}
	if in.HTTP.RequestHeadersTimeout == 0 {
		in.HTTP.RequestHeadersTimeout = defaultRequestHeadersTimeout
	}
	if in.HTTP.MaxConcurrentStreams == 0 {
		in.HTTP.MaxConcurrentStreams = defaultMaxConcurrentStreams
	}
	if in.HTTP.MaxRequestHeadersKB == 0 {
		in.HTTP.MaxRequestHeadersKB = defaultMaxRequestHeadersKB
	}
	if len(w.Proxy.Bound) > 0 {
		in.describeBound(w)
		return
	}
	in.IPv6 = slices.ContainsFunc(w.Addresses, netip.Addr.Is6)
	for _, p := range w.Ports {
		if !reserved(p.Number) && !slices.Contains(w.Proxy.ExcludedInbound, p.Number) {
			in.Chains = append(in.Chains, chain{p.Number, kindOf(w, p.Number)})
		}
	}
	for _, number := range w.Proxy.ServerFirst {
		if _, declared := w.Port(number); !declared && !reserved(number) && !slices.Contains(w.Proxy.ExcludedInbound, number) {
			in.Chains = append(in.Chains, chain{number, chainServerFirst})
		}
	}
	slices.SortFunc(in.Chains, func(a, b chain) int { return int(a.Port) - int(b.Port) })
	in.Chains = slices.Compact(in.Chains)
}

// describeBound keeps the first of two entries that claim one port or one socket: Envoy would refuse both. reportPorts says so.
func (in *inbound) describeBound(w *model.Workload) {
	for i, b := range w.Proxy.Bound {
		if clashesWithEarlier(w.Proxy.Bound, i) {
			continue
		}
		in.Bound = append(in.Bound, b)
		in.Chains = append(in.Chains, chain{b.Port, kindOf(w, b.Port)})
	}
}

// clashesWithEarlier says whether an entry names the same port as an earlier one, the same socket, or the same socket's port number: the RBAC
// filter knows the socket by its number alone.
func clashesWithEarlier(bound []model.BoundPort, i int) bool {
	return slices.ContainsFunc(bound[:i], func(b model.BoundPort) bool {
		return b.Port == bound[i].Port || b.Listen.Port() == bound[i].Listen.Port()
	})
}

// kindOf: HTTP decides over server-first, since an HTTP server never speaks first.
func kindOf(w *model.Workload, number uint16) chainKind {
	if p, ok := w.Port(number); ok && p.Protocol == model.AppHTTP {
		return chainHTTP
	}
	if slices.Contains(w.Proxy.ServerFirst, number) {
		return chainServerFirst
	}
	return chainTCP
}

func reserved(port uint16) bool { return port >= model.ReservedFirst && port <= model.ReservedLast }

// has says whether a chain of one of these kinds stands in the listeners. The default chain of captured mode is TCP.
func (in *inbound) has(kinds ...chainKind) bool {
	if len(in.Bound) == 0 && slices.Contains(kinds, chainTCP) {
		return true
	}
	return slices.ContainsFunc(in.Chains, func(c chain) bool { return slices.Contains(kinds, c.Kind) })
}

// build makes the clusters, then the listeners.
func (in *inbound) build() resources {
	if len(in.Bound) == 0 {
		return resources{originalDestination(), in.captured()}
	}
	out := make(resources, 0, 2*len(in.Bound))
	for _, b := range in.Bound {
		out = append(out, application(boundName(b.Port), b.Application))
	}
	for i, b := range in.Bound {
		out = append(out, in.bound(b, in.Chains[i]))
	}
	return out
}

// connectSlots yields each connect slot that the listeners hold, with the cluster it leads to.
func (in *inbound) connectSlots() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if len(in.Bound) == 0 {
			yield(ConnectSlot, inboundName)
			return
		}
		for i, b := range in.Bound {
			if in.Chains[i].Kind == chainTCP && !yield(boundConnectSlot(b.Port), boundName(b.Port)) {
				return
			}
		}
	}
}

// inboundName names the listener of captured mode and its cluster.
const inboundName = "inbound"

func boundName(port uint16) string { return inboundName + "/" + portText(port) }

func boundConnectSlot(port uint16) string { return ConnectSlot + "/" + portText(port) }
