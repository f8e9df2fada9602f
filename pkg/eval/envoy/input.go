package envoy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	sslinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// input is something of a request that a matcher compares. get answers yes with a value, no where the request has none, and unable where the
// connection is not of a kind that has any.
type input interface {
	fmt.Stringer
	get(a *asked) (string, answer)
}

func (c *compiler) input(e *xdscorev3.TypedExtensionConfig) (input, error) {
	config := e.GetTypedConfig()
	header := &matcherv3.HttpRequestHeaderMatchInput{}
	if config.MessageIs(header) {
		if c.connection {
			return nil, errors.New("input: a header, in the filter of a TCP chain")
		}
		if err := config.UnmarshalTo(header); err != nil {
			return nil, fmt.Errorf("input: %w", err)
		}
		if err := header.ValidateAll(); err != nil {
			return nil, fmt.Errorf("input: %w", err)
		}
		return headerInput(strings.ToLower(header.GetHeaderName())), nil
	}
	for _, known := range []struct {
		message proto.Message
		input   input
	}{
		{&networkinputsv3.DestinationPortInput{}, portInput{}},
		{&networkinputsv3.DirectSourceIPInput{}, sourceInput{}},
		{&networkinputsv3.SourceIPInput{}, remoteInput{}},
		{&sslinputsv3.UriSanInput{}, peerInput{"the URI SANs", func(p *Peer) string { return strings.Join(p.URIs, ",") }}},
		{&sslinputsv3.DnsSanInput{}, peerInput{"the DNS SANs", func(p *Peer) string { return strings.Join(p.DNS, ",") }}},
		{&sslinputsv3.SubjectInput{}, peerInput{"the subject", func(p *Peer) string { return p.Subject }}},
	} {
		if config.MessageIs(known.message) {
			return known.input, nil
		}
	}
	if config == nil {
		return nil, fmt.Errorf("input %q: no typed_config", e.GetName())
	}
	return unknownInput("an input of type " + config.GetTypeUrl()), nil
}

// headerInput is a header by its name in lower case; the values of one that is repeated are joined with commas.
type headerInput string

func (in headerInput) String() string { return string(in) }

func (in headerInput) get(a *asked) (string, answer) {
	a.looks++
	if a.request.HTTP == nil {
		return "", unable
	}
	values := headerValues(a.request.HTTP, string(in))
	return strings.Join(values, ","), answerOf(values != nil)
}

// headerValues are the values of a header, whose name is in lower case; nil where it is absent.
func headerValues(r *model.HTTPRequest, name string) []string {
	switch name {
	case ":path":
		return []string{r.Path}
	case ":authority", "host":
		return []string{r.Host}
	case ":method":
		return []string{r.Method}
	}
	var out []string
	for _, h := range r.Headers {
		if asciiLower(h.Name) == name {
			out = append(out, h.Value)
		}
	}
	return out
}

type portInput struct{}

func (portInput) String() string { return "the destination port" }

func (portInput) get(a *asked) (string, answer) {
	a.looks++
	return strconv.Itoa(int(a.request.Port)), yes
}

type sourceInput struct{}

func (sourceInput) String() string { return "the source address" }

func (sourceInput) get(a *asked) (string, answer) {
	a.looks++
	return text(a.request.source()), yes
}

type remoteInput struct{}

func (remoteInput) String() string { return "the caller's address" }

func (remoteInput) get(a *asked) (string, answer) {
	a.looks++
	return text(a.request.remote()), yes
}

// peerInput is a part of the certificate: what a plaintext connection has not got.
type peerInput struct {
	name string
	of   func(*Peer) string
}

func (in peerInput) String() string { return in.name }

func (in peerInput) get(a *asked) (string, answer) {
	a.looks++
	if a.request.TLS == nil {
		return "", unable
	}
	value := in.of(a.request.TLS)
	return value, answerOf(value != "")
}

// unknownInput gives the question up.
type unknownInput string

func (in unknownInput) String() string { return string(in) }

func (in unknownInput) get(a *asked) (string, answer) { return "", a.cannot(string(in)) }
