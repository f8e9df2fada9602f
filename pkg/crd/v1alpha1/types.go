package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Action says what a policy does with the requests its rules match.
//
// +kubebuilder:validation:Enum=Allow;Deny
type Action string

const (
	// ActionAllow isolates the selected workloads and admits what the rules match. The default.
	ActionAllow Action = "Allow"
	// ActionDeny refuses what the rules match, whatever any Allow policy says.
	ActionDeny Action = "Deny"
)

// Enforcement says whether a policy decides or only reports.
//
// +kubebuilder:validation:Enum=Enforce;DryRun
type Enforcement string

const (
	// EnforcementEnforce makes the policy decide. The default.
	EnforcementEnforce Enforcement = "Enforce"
	// EnforcementDryRun makes the policy report what it would have decided: it neither isolates nor gets companions.
	EnforcementDryRun Enforcement = "DryRun"
)

// PathMatchType says how a path is compared, after normalization and without its query.
//
// +kubebuilder:validation:Enum=Exact;PathPrefix;RegularExpression
type PathMatchType string

const (
	// PathExact matches the whole path.
	PathExact PathMatchType = "Exact"
	// PathPrefix matches whole leading segments: /a matches /a, /a/ and /a/b, not /ab. The default.
	PathPrefix PathMatchType = "PathPrefix"
	// PathRegularExpression matches the whole path against an RE2 expression.
	PathRegularExpression PathMatchType = "RegularExpression"
)

// HeaderMatchType says how a header is compared.
//
// +kubebuilder:validation:Enum=Exact;RegularExpression;Present;Absent;NotExact;NotRegularExpression
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

// Reasons of the conditions.
const (
	// ReasonAccepted and ReasonInvalid are those of Accepted.
	ReasonAccepted = "Accepted"
	ReasonInvalid  = "Invalid"
	// ReasonEnforced is that of Enforced where it is true; the others say why it is false.
	ReasonEnforced        = "Enforced"
	ReasonPending         = "Pending"         // a proxy or a companion is not as it should be yet
	ReasonNoProxy         = "NoProxy"         // a selected pod has no sidecar
	ReasonDisconnected    = "Disconnected"    // a proxy is connected to no replica
	ReasonRefused         = "Refused"         // a proxy refused the configuration
	ReasonNothingSelected = "NothingSelected" // no running pod is selected
	ReasonDryRun          = "DryRun"          // the policy decides nothing
	// ReasonNotEvaluated says that LayersAgree is unknown, since the layers were not compared yet.
	ReasonNotEvaluated = "NotEvaluated"
)

// Labels and annotations that pilot-lite reads and writes on pods.
const (
	// LabelProxy is stamped by the injector on pods that carry a sidecar, with the value ProxyInjected.
	LabelProxy = "policy.pilot-lite.io/proxy"
	// ProxyInjected is LabelProxy's only value.
	ProxyInjected = "injected"
	// CaptureContainer and ProxyContainer are the containers that the injector puts into them.
	CaptureContainer = "pilot-lite-capture"
	ProxyContainer   = "pilot-lite-proxy"
	// LabelServiceAccount is stamped by the injector with the pod's service account (see model.ServiceAccountLabel for long names).
	LabelServiceAccount = "policy.pilot-lite.io/service-account"
	// LabelInject on a namespace, with the value InjectEnabled, has the sidecar injected into its pods; on a pod, InjectDisabled leaves it out where the mesh's settings permit.
	LabelInject = "policy.pilot-lite.io/inject"
	// InjectEnabled and InjectDisabled are LabelInject's values.
	InjectEnabled  = "enabled"
	InjectDisabled = "disabled"
	// AnnotationProbes keeps, as JSON, the kubelet's probes as the pod's author wrote them; the injector writes it.
	AnnotationProbes = "policy.pilot-lite.io/probes"
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

// Annotations that guard, of Namespaces and L7Policies.
const (
	// AnnotationGuarded ("true") on a Namespace, or on an L7Policy for the pods that it selects, has edits of policies refused that open what is shut there. Any value but "false"
	// guards.
	AnnotationGuarded = "policy.pilot-lite.io/guarded"
	// AnnotationOpensGuarded on an L7Policy says why an edit of it may open what is guarded. It holds for the one edit that writes it, or writes another reason.
	AnnotationOpensGuarded = "policy.pilot-lite.io/opens-guarded"
)

// L7Policy says who may call the selected workloads, and with which HTTP requests. A workload that some enforced Allow policy selects is isolated: nobody gets in but those
// whom a rule of one of its Allows matches. A Deny beats every Allow. A workload that no Allow selects is open, but for what Denies refuse.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=l7policies,singular=l7policy,shortName=l7p,categories=pilot-lite,scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.action`
// +kubebuilder:printcolumn:name="Enforcement",type=string,JSONPath=`.spec.enforcement`
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.enforced`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Enforced")].reason`
// +kubebuilder:printcolumn:name="Accepted",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="LayersAgree",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="LayersAgree")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type L7Policy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   L7PolicySpec   `json:"spec"`
	Status L7PolicyStatus `json:"status,omitempty"`
}

// L7PolicySpec has the shape of NetworkPolicy's spec, with an action, an enforcement and http blocks. What is taken otherwise than there is listed in docs/reference.md.
type L7PolicySpec struct {
	// PodSelector selects the pods in the policy's namespace that it governs; empty selects all.
	PodSelector LabelSelector `json:"podSelector,omitempty"`
	// Action is Allow (default) or Deny. An Allow isolates the selected pods and admits what its rules match; without rules it lets nobody in. A Deny refuses what its rules
	// match, whatever any Allow says; it isolates nobody, and without rules it denies nothing.
	//
	// +kubebuilder:default=Allow
	Action Action `json:"action,omitempty"`
	// Enforcement is Enforce (default) or DryRun.
	//
	// +kubebuilder:default=Enforce
	Enforcement Enforcement `json:"enforcement,omitempty"`
	// PolicyTypes lists the directions governed. Default: Ingress, and Egress where there are egress rules.
	//
	// +kubebuilder:validation:MaxItems=2
	PolicyTypes []PolicyType `json:"policyTypes,omitempty"`
	// Ingress lists the rules for requests to the selected pods, ORed.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, !has(r.name) || self.exists_one(s, has(s.name) && s.name == r.name))",message="rule names must be unique: give each rule of a direction its own name"
	Ingress []IngressRule `json:"ingress,omitempty"`
	// Egress lists the rules for connections from the selected pods, ORed; L3/4 only.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, !has(r.name) || self.exists_one(s, has(s.name) && s.name == r.name))",message="rule names must be unique: give each rule of a direction its own name"
	Egress []EgressRule `json:"egress,omitempty"`
}

// PolicyType is a direction, spelt as NetworkPolicy does.
//
// +kubebuilder:validation:Enum=Ingress;Egress
type PolicyType string

// Directions.
const (
	PolicyTypeIngress PolicyType = "Ingress"
	PolicyTypeEgress  PolicyType = "Egress"
)

// RuleName names a rule. It begins with a letter, so that it is never the index by which a rule without a name is known.
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule=`self.matches("^[A-Za-z]([-_.A-Za-z0-9]*[A-Za-z0-9])?$")`,message="a rule's name begins with a letter, goes on with letters, digits, '-', '_' and '.', and ends with a letter or digit"
type RuleName string

// IngressRule matches a request when From, Ports and HTTP all do. Absent From and HTTP match anything, absent Ports nearly so.
//
// +kubebuilder:validation:XValidation:rule="!has(self.http) || !has(self.ports) || self.ports.all(p, !has(p.protocol) || p.protocol == 'TCP')",message="http is spoken over TCP: take the http block or the UDP and SCTP ports out of the rule"
type IngressRule struct {
	// Name names the rule in logs, stats and verdicts; default: its index. Unique in its direction.
	Name RuleName `json:"name,omitempty"`
	// From lists the callers, ORed. Absent or empty: anybody.
	//
	// +kubebuilder:validation:MaxItems=32
	From []Peer `json:"from,omitempty"`
	// Ports lists the destination ports, ORed: the pods', not a Service's. Absent or empty: every TCP port but the sidecar's own (15000-15099) in an Allow, every port of every
	// protocol in a Deny.
	//
	// +kubebuilder:validation:MaxItems=32
	Ports []Port `json:"ports,omitempty"`
	// HTTP lists request matches, ORed. Which ports speak HTTP Services say, by appProtocol, or else by the prefix of the port's name. At a TCP port that does not, a rule with http lets
	// nobody in, and refuses everybody in a Deny; UDP and SCTP it leaves alone.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	HTTP []HTTPMatch `json:"http,omitempty"`
}

// EgressRule matches a connection when To and Ports both do. Absent To matches anything, absent Ports nearly so.
type EgressRule struct {
	// Name names the rule; default: its index. Unique in its direction.
	Name RuleName `json:"name,omitempty"`
	// To lists the callees, ORed. Absent or empty: anybody.
	//
	// +kubebuilder:validation:MaxItems=32
	To []Peer `json:"to,omitempty"`
	// Ports lists the destination ports, ORed, by number. Absent or empty: every TCP port but 15000-15099 in an Allow, every port of every protocol in a Deny.
	//
	// +kubebuilder:validation:MaxItems=32
	Ports []Port `json:"ports,omitempty"`
}

// Peer matches a pod or an address; its fields are ANDed. IPBlock stands alone.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.ipBlock) || !(has(self.podSelector) || has(self.namespaceSelector) || has(self.serviceAccounts))",message="ipBlock stands alone in a peer: make it an entry of its own"
type Peer struct {
	// PodSelector selects pods, in the policy's namespace unless NamespaceSelector is there too.
	PodSelector *LabelSelector `json:"podSelector,omitempty"`
	// NamespaceSelector selects namespaces.
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`
	// IPBlock matches addresses.
	IPBlock *IPBlock `json:"ipBlock,omitempty"`
	// ServiceAccounts narrows to pods that run as one of these accounts.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	ServiceAccounts []ServiceAccountRef `json:"serviceAccounts,omitempty"`
}

// ServiceAccountRef names a service account in the namespaces that the peer selects.
type ServiceAccountRef struct {
	// Name is the account's name.
	//
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
}

// HTTPMatch matches a request when Hosts, Methods, Paths and Headers all do. An absent field matches anything.
//
// +kubebuilder:validation:MinProperties=1
type HTTPMatch struct {
	// Hosts lists names or "*." plus a name, ORed; case, port and trailing dot are ignored. A host that is a spelling of a Service means every spelling of it: NAME (of a Service of
	// the policy's own namespace), NAME.NAMESPACE, NAME.NAMESPACE.svc, the same with the cluster's domain, and its ClusterIPs.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule=`!self.contains("/") && !self.matches("^[^:]*:[0-9]*$")`,message="leave out the scheme, the port and the path: ports go into the rule's ports, paths beside the hosts"
	// +kubebuilder:validation:items:XValidation:rule=`!self.contains("*") || self.startsWith("*.")`,message="a wildcard stands for whole leading labels: write *. and a name; for any host, leave the list out"
	// +kubebuilder:validation:items:XValidation:rule=`!self.endsWith(".")`,message="leave out the trailing dot: it is ignored in requests"
	// +kubebuilder:validation:items:Pattern=`^((\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\])$`
	Hosts []string `json:"hosts,omitempty"`
	// Methods lists HTTP methods, ORed.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule=`self.matches("^[-!#$%&'+.^_|~0-9A-Z]+$")`,message="write the method in upper case, as GET; for any method, leave the list out"
	Methods []string `json:"methods,omitempty"`
	// Paths lists path matches, ORed.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Paths []PathMatch `json:"paths,omitempty"`
	// Headers lists header matches; all must hold. Of a header that is repeated, an Allow wants every value to satisfy its match, and a Deny any.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// PathMatch compares the normalized path without its query.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'RegularExpression' ? size(self.value) <= 256 : self.value.startsWith('/')",message="a path begins with /, and a regular expression has at most 256 bytes"
// +kubebuilder:validation:XValidation:rule="self.type == 'RegularExpression' || !self.value.contains('?')",message="the query is not compared: end the path before the ?"
// +kubebuilder:validation:XValidation:rule="self.type == 'RegularExpression' || !self.value.contains('#')",message="no request sends a fragment: end the path before the #"
// +kubebuilder:validation:XValidation:rule="self.type == 'RegularExpression' || !self.value.contains(';')",message="path parameters are not compared: leave out each ; and what follows in its segment"
// +kubebuilder:validation:XValidation:rule="self.type == 'RegularExpression' || !self.value.contains('//')",message="requests have no empty segments: write one slash"
// +kubebuilder:validation:XValidation:rule="self.type == 'RegularExpression' || !self.value.contains('/../')",message="requests have no dot segments: write the path that it leads to"
type PathMatch struct {
	// Type is PathPrefix (default), Exact or RegularExpression. The slash that ends a prefix is ignored, as in Gateway API.
	//
	// +kubebuilder:default=PathPrefix
	Type PathMatchType `json:"type,omitempty"`
	// Value is the path, or an RE2 expression of at most 256 bytes for the whole of it.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[ -~]+$`
	Value string `json:"value"`
}

// HeaderMatch compares a request header.
//
// +kubebuilder:validation:XValidation:rule="(self.type in ['Present', 'Absent']) == (!has(self.value) || size(self.value) == 0)",message="Present and Absent take no value, the other types need one"
// +kubebuilder:validation:XValidation:rule="self.name.lowerAscii() != 'host'",message="Host is not compared as a header: use hosts"
type HeaderMatch struct {
	// Name is the header's name; case does not matter.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	// +kubebuilder:validation:XValidation:rule=`!self.startsWith(":")`,message="for :path and its like, use hosts, methods and paths"
	Name string `json:"name"`
	// Type is Exact (default), RegularExpression, Present, Absent, NotExact or NotRegularExpression.
	//
	// +kubebuilder:default=Exact
	Type HeaderMatchType `json:"type,omitempty"`
	// Value is the value, or an RE2 expression for the whole of it; none for Present and Absent.
	//
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule=`self.matches("^[\\t -~]*$")`,message="use visible ASCII characters, spaces and tabs"
	Value string `json:"value,omitempty"`
}

// L7PolicyStatus says how far the policy is in force.
type L7PolicyStatus struct {
	// ObservedGeneration is the generation that the status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions are Accepted, Enforced and LayersAgree.
	//
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Proxies counts the proxies of the selected pods.
	Proxies ProxyCounts `json:"proxies,omitempty"`
	// Enforced is "ENFORCED/EXPECTED", for people.
	//
	// +kubebuilder:validation:MaxLength=32
	Enforced string `json:"enforced,omitempty"`
	// FirstRefusal is the text with which the first proxy refused this policy's configuration.
	//
	// +kubebuilder:validation:MaxLength=1024
	FirstRefusal string `json:"firstRefusal,omitempty"`
}

// ProxyCounts counts proxies by what they run.
type ProxyCounts struct {
	// Expected is how many should run the policy: those of the selected pods that are bound and have not ended.
	Expected int32 `json:"expected"`
	// Enforced is how many run this generation.
	Enforced int32 `json:"enforced"`
	// Rejected is how many refused its configuration, and go on with the one before.
	Rejected int32 `json:"rejected"`
	// Pending is how many are none of these: not there, not connected, or yet to answer.
	Pending int32 `json:"pending"`
}
