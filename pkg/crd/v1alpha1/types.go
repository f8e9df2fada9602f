package v1alpha1

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Action says what a policy does with the requests its rules match.
type Action string

const (
	// ActionAllow isolates the selected workloads and admits what the rules match. The default.
	ActionAllow Action = "Allow"
	// ActionDeny refuses what the rules match, whatever any Allow policy says.
	ActionDeny Action = "Deny"
)

// Enforcement says whether a policy decides or only reports.
type Enforcement string

const (
	// EnforcementEnforce makes the policy decide. The default.
	EnforcementEnforce Enforcement = "Enforce"
	// EnforcementDryRun makes the policy report what it would have decided: it neither isolates nor gets companions.
	EnforcementDryRun Enforcement = "DryRun"
)

// PathMatchType says how a path is compared, after normalization and without its query.
type PathMatchType string

const (
	// PathExact matches the whole path.
	PathExact PathMatchType = "Exact"
	// PathPrefix matches whole leading segments: /a matches /a, /a/ and /a/b, not /ab.
	PathPrefix PathMatchType = "PathPrefix"
	// PathRegularExpression matches the whole path against an RE2 expression.
	PathRegularExpression PathMatchType = "RegularExpression"
)

// HeaderMatchType says how a header is compared.
type HeaderMatchType string

const (
	// HeaderExact holds when the header has the value. The default.
	HeaderExact HeaderMatchType = "Exact"
	// HeaderRegularExpression holds when the whole value matches an RE2 expression.
	HeaderRegularExpression HeaderMatchType = "RegularExpression"
	// HeaderPresent holds when the header is there, with any value.
	HeaderPresent HeaderMatchType = "Present"
	// HeaderAbsent holds when the header is not there.
	HeaderAbsent HeaderMatchType = "Absent"
	// HeaderNotExact holds when the header is absent or has another value.
	HeaderNotExact HeaderMatchType = "NotExact"
	// HeaderNotRegularExpression holds when the header is absent or does not match.
	HeaderNotRegularExpression HeaderMatchType = "NotRegularExpression"
)

// Condition types of an L7Policy's status.
const (
	// ConditionAccepted says whether every part of the policy is understood.
	ConditionAccepted = "Accepted"
	// ConditionEnforced says whether every expected proxy runs this generation and the companions stand.
	ConditionEnforced = "Enforced"
	// ConditionLayersAgree says whether everything that L7 allows is allowed by L4 too.
	ConditionLayersAgree = "LayersAgree"
)

// Labels and annotations that pilot-lite reads and writes on pods.
const (
	// LabelProxy is stamped by the injector on pods that carry a sidecar, with the value ProxyInjected.
	LabelProxy = "policy.pilot-lite.io/proxy"
	// ProxyInjected is LabelProxy's only value.
	ProxyInjected = "injected"
	// LabelServiceAccount is stamped by the injector with the pod's service account (see model.ServiceAccountLabel for long names).
	LabelServiceAccount = "policy.pilot-lite.io/service-account"
	// AnnotationBound lists, as JSON, the listeners of a proxy that is not behind a redirect.
	AnnotationBound = "policy.pilot-lite.io/bound"
	// AnnotationServerFirst lists the TCP ports, comma-separated, where the application speaks first.
	AnnotationServerFirst = "policy.pilot-lite.io/server-first-ports"
	// AnnotationExcludeInboundPorts lists the ports, comma-separated, that the capture leaves alone.
	AnnotationExcludeInboundPorts = "policy.pilot-lite.io/exclude-inbound-ports"
	// AnnotationAllowEscapedSlashes ("true") unescapes %2F and %5C instead of refusing the request.
	AnnotationAllowEscapedSlashes = "policy.pilot-lite.io/allow-escaped-slashes"
	// AnnotationAllowUnderscoreHeaders ("true") passes header names with an underscore.
	AnnotationAllowUnderscoreHeaders = "policy.pilot-lite.io/allow-underscore-headers"
	// AnnotationAllowHTTP10 ("true") accepts HTTP/1.0.
	AnnotationAllowHTTP10 = "policy.pilot-lite.io/allow-http10"
	// AnnotationMaxStreamDuration bounds every stream's life, as a Go duration ("10m"); default none.
	AnnotationMaxStreamDuration = "policy.pilot-lite.io/max-stream-duration"
)

// L7Policy says who may call the selected workloads, and with which HTTP requests.
type L7Policy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   L7PolicySpec   `json:"spec"`
	Status L7PolicyStatus `json:"status,omitempty"`
}

// L7PolicyList is a list of policies.
type L7PolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L7Policy `json:"items"`
}

// L7PolicySpec is NetworkPolicy's spec with an action, an enforcement and http blocks: the spec of any NetworkPolicy is a valid L7PolicySpec.
type L7PolicySpec struct {
	// PodSelector selects the pods in the policy's namespace that it governs; empty selects all.
	PodSelector metav1.LabelSelector `json:"podSelector,omitempty"`
	// Action is Allow (default) or Deny.
	Action Action `json:"action,omitempty"`
	// Enforcement is Enforce (default) or DryRun.
	Enforcement Enforcement `json:"enforcement,omitempty"`
	// PolicyTypes lists the directions governed. Default: Ingress, and Egress where there are egress rules.
	PolicyTypes []networkingv1.PolicyType `json:"policyTypes,omitempty"`
	// Ingress lists the rules for requests to the selected pods, ORed.
	Ingress []IngressRule `json:"ingress,omitempty"`
	// Egress lists the rules for connections from the selected pods, ORed; L3/4 only.
	Egress []EgressRule `json:"egress,omitempty"`
}

// IngressRule matches a request when From, Ports and HTTP all do. An absent field matches anything.
type IngressRule struct {
	// Name names the rule in logs, stats and verdicts; default: its index. Unique in its direction.
	Name string `json:"name,omitempty"`
	// From lists the callers, ORed.
	From []Peer `json:"from,omitempty"`
	// Ports lists the destination ports, ORed. Absent: every TCP port but the sidecar's own (15000-15099).
	Ports []networkingv1.NetworkPolicyPort `json:"ports,omitempty"`
	// HTTP lists request matches, ORed.
	HTTP []HTTPMatch `json:"http,omitempty"`
}

// EgressRule matches a connection when To and Ports both do. An absent field matches anything.
type EgressRule struct {
	// Name names the rule; default: its index. Unique in its direction.
	Name string `json:"name,omitempty"`
	// To lists the callees, ORed.
	To []Peer `json:"to,omitempty"`
	// Ports lists the destination ports, ORed.
	Ports []networkingv1.NetworkPolicyPort `json:"ports,omitempty"`
}

// Peer matches a pod or an address; its fields are ANDed. IPBlock stands alone.
type Peer struct {
	// PodSelector selects pods, in the policy's namespace unless NamespaceSelector is there too.
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`
	// NamespaceSelector selects namespaces.
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// IPBlock matches addresses.
	IPBlock *networkingv1.IPBlock `json:"ipBlock,omitempty"`
	// ServiceAccounts narrows to pods that run as one of these accounts.
	ServiceAccounts []ServiceAccountRef `json:"serviceAccounts,omitempty"`
}

// ServiceAccountRef names a service account in the namespaces that the peer selects.
type ServiceAccountRef struct {
	Name string `json:"name"`
}

// HTTPMatch matches a request when Hosts, Methods, Paths and Headers all do. An absent field matches anything.
type HTTPMatch struct {
	// Hosts lists names or "*." plus a name, ORed; case, port and trailing dot are ignored.
	Hosts []string `json:"hosts,omitempty"`
	// Methods lists HTTP methods, ORed.
	Methods []string `json:"methods,omitempty"`
	// Paths lists path matches, ORed.
	Paths []PathMatch `json:"paths,omitempty"`
	// Headers lists header matches; all must hold.
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// PathMatch compares the normalized path without its query.
type PathMatch struct {
	Type  PathMatchType `json:"type,omitempty"`
	Value string        `json:"value"`
}

// HeaderMatch compares a request header.
type HeaderMatch struct {
	Name  string          `json:"name"`
	Type  HeaderMatchType `json:"type,omitempty"`
	Value string          `json:"value,omitempty"`
}

// L7PolicyStatus says how far the policy is in force.
type L7PolicyStatus struct {
	// ObservedGeneration is the generation that the status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions are Accepted, Enforced and LayersAgree.
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Proxies counts the proxies of the selected pods.
	Proxies ProxyCounts `json:"proxies,omitempty"`
	// Enforced is "ENFORCED/EXPECTED", for people.
	Enforced string `json:"enforced,omitempty"`
	// FirstRefusal is the text with which the first proxy refused this policy's configuration.
	FirstRefusal string `json:"firstRefusal,omitempty"`
}

// ProxyCounts counts proxies by what they run.
type ProxyCounts struct {
	Expected int32 `json:"expected"`
	Enforced int32 `json:"enforced"`
	Rejected int32 `json:"rejected"`
	Pending  int32 `json:"pending"`
}
