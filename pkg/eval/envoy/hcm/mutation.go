package hcm

import (
	"errors"
	"fmt"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlymutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// mutation changes a header before the connection manager looks at any: it is removed, or set to the first line of another where that is present.
type mutation struct{ header, from string }

func (c mutation) apply(r *model.HTTPRequest) {
	if c.from == "" {
		remove(r, c.header)
		return
	}
	if value, present := first(r, c.from); present {
		set(r, c.header, value)
	}
}

func earlyMutations(m *hcmv3.HttpConnectionManager) ([]mutation, error) {
	var out []mutation
	for _, e := range m.GetEarlyHeaderMutationExtensions() {
		config := &earlymutationv3.HeaderMutation{}
		if !e.GetTypedConfig().MessageIs(config) {
			return nil, fmt.Errorf("early_header_mutation_extensions: %s: not evaluated", e.GetTypedConfig().GetTypeUrl())
		}
		if err := e.GetTypedConfig().UnmarshalTo(config); err != nil {
			return nil, fmt.Errorf("early_header_mutation_extensions: %w", err)
		}
		for _, c := range config.GetMutations() {
			read, err := readMutation(c)
			if err != nil {
				return nil, fmt.Errorf("early_header_mutation_extensions: %w", err)
			}
			out = append(out, read)
		}
	}
	return out, nil
}

func readMutation(m *mutationv3.HeaderMutation) (mutation, error) {
	var out mutation
	switch a := m.GetAction().(type) {
	case *mutationv3.HeaderMutation_Remove:
		out.header = strings.ToLower(a.Remove)
	case *mutationv3.HeaderMutation_Append:
		value, copies := strings.CutPrefix(a.Append.GetHeader().GetValue(), "%REQ(")
		name, whole := strings.CutSuffix(value, ")%")
		if !copies || !whole || strings.ContainsAny(name, "%()?:") || a.Append.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			return out, errors.New("a header that is not the copy of another: not evaluated")
		}
		out = mutation{header: strings.ToLower(a.Append.GetHeader().GetKey()), from: strings.ToLower(name)}
	default:
		return out, fmt.Errorf("a mutation of type %T: not evaluated", a)
	}
	if strings.HasPrefix(out.header, ":") || out.header == "host" {
		return out, errors.New("a mutation of " + out.header + ": not evaluated")
	}
	return out, nil
}
