package v1alpha1

import "k8s.io/apimachinery/pkg/util/intstr"

// The types of this file have the fields of those of the same purpose in k8s.io/api/networking/v1 and k8s.io/apimachinery. They are declared again
// because the API server refuses a schema whose checks have no bound on their cost, and the originals carry no bounds.

// LabelSelector selects objects by their labels: all of it must hold, and an empty selector selects everything. It is one value to server-side apply, as the original is:
// else who applies an empty one where labels stood is told that it is null.
//
// +structType=atomic
type LabelSelector struct {
	// MatchLabels lists labels that must have these values.
	//
	// +kubebuilder:validation:MaxProperties=64
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`
	// MatchExpressions lists further requirements; all must hold.
	//
	// +kubebuilder:validation:MaxItems=32
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// LabelSelectorOperator relates a label to values.
//
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type LabelSelectorOperator string

// LabelSelectorRequirement relates one label to values.
//
// +kubebuilder:validation:XValidation:rule="(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",message="In and NotIn need values, Exists and DoesNotExist take none"
type LabelSelectorRequirement struct {
	// Key is the label's key.
	//
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$`
	Key string `json:"key"`
	// Operator is In, NotIn, Exists or DoesNotExist.
	Operator LabelSelectorOperator `json:"operator"`
	// Values are those of In and NotIn.
	//
	// +kubebuilder:validation:MaxItems=64
	Values []LabelValue `json:"values,omitempty"`
}

// IPBlock is a CIDR without its exceptions.
//
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || !has(self.except) || self.except.all(e, !isCIDR(e) || (cidr(self.cidr).containsCIDR(e) && cidr(e).prefixLength() > cidr(self.cidr).prefixLength()))",message="each except must lie inside cidr and be smaller"
type IPBlock struct {
	// CIDR is the block, for example 10.0.0.0/8 or 2001:db8::/32.
	CIDR CIDR `json:"cidr"`
	// Except lists blocks inside CIDR that do not match.
	//
	// +kubebuilder:validation:MaxItems=32
	Except []CIDR `json:"except,omitempty"`
}

// CIDR is an address block without bits after the prefix.
//
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self) == cidr(self).masked()",message="must be a CIDR without bits after the prefix, for example 10.0.0.0/8"
type CIDR string

// Protocol is a transport protocol.
//
// +kubebuilder:validation:Enum=TCP;UDP;SCTP
type Protocol string

// Port is a port, a range of ports, or, without Port, every port of the protocol.
//
// +kubebuilder:validation:XValidation:rule="!has(self.endPort) || (has(self.port) && type(self.port) == int && self.endPort >= self.port)",message="endPort needs a numeric port that is not greater"
type Port struct {
	// Protocol is TCP (default), UDP or SCTP.
	Protocol *Protocol `json:"protocol,omitempty"`
	// Port is a number or the name of a container port.
	//
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[a-z0-9]+(-[a-z0-9]+)*$') && self.matches('[a-z]')",message="must be 1 to 65535, or a port name: at most 15 of a-z, 0-9 and single dashes, with a letter"
	Port *intstr.IntOrString `json:"port,omitempty"`
	// EndPort is the last port of a range that begins at Port, inclusive.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	EndPort *int32 `json:"endPort,omitempty"`
}
