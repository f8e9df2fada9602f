package lint

import (
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Kind is a kind of finding. Codes are stable: users search for them, and suppress by them.
type Kind struct {
	Code     string
	Severity model.Severity // the usual one; what a finding says counts
	Title    string         // what was found
	Help     string         // what follows, and what to do
}

// Catalog lists every kind of finding that Run can return, sorted by code.
func Catalog() []Kind {
	all := slices.Concat(policyKinds(), peerKinds(), httpKinds(), ruleKinds(), meaningKinds(), workloadKinds(), layerKinds(), fileKinds())
	slices.SortFunc(all, func(a, b Kind) int { return strings.Compare(a.Code, b.Code) })
	return all
}

const (
	asError   = model.SeverityError
	asWarning = model.SeverityWarning
	asNotice  = model.SeverityNotice
)

// policyKinds are what validation finds in the frame of a policy. The API server refuses such a policy; one that got past it fails closed.
func policyKinds() []Kind {
	return []Kind{
		{"action", asError, "The action is neither Allow nor Deny", "The policy denies everything, to every pod that it could have meant. Write Allow or Deny."},
		{"enforcement", asError, "The enforcement is neither Enforce nor DryRun", "The policy is enforced. Write Enforce or DryRun."},
		{
			"label-selector", asError, "A label selector is not understood",
			"As a policy's own selector it governs every pod of the namespace; in a peer the rule is left out of an Allow, and means anybody in a Deny. Correct key, operator or value.",
		},
		{"limit", asError, "A list or a string is longer than its limit", "Its contents are not looked at. Split the policy in two, or shorten the value; the limits are in the schema."},
		{"object-name", asError, "The name of the policy or of its namespace is none", "Use lower-case letters, digits, dashes and dots."},
		{"policy-type", asError, "policyTypes holds something else than Ingress and Egress", "The policy governs both directions, and its rules are shut. Write Ingress, Egress or both."},
		{"rule-name", asError, "A rule's name cannot be one", "The rule is known by its index. Begin with a letter, then letters, digits, dashes, underscores and dots."},
		{"rule-name-unique", asError, "Two rules of a direction have one name", "Logs and verdicts could not tell them apart: the later is known by its index. Give each its own name."},
		{"rules-not-governed", asWarning, "Rules stand in a direction that policyTypes does not list", "They have no effect. Add the direction to policyTypes, or remove the rules."},
		{"deny-without-rules", asWarning, "A Deny has no rules", "A Deny denies what its rules match, so this one denies nothing. Add rules; the rule `{}` denies everything."},
		{"no-spec", asError, "A policy has no spec", "The API server requires one. Write it, with the podSelector and the rules."},
		{
			"whole-namespace-shut", asWarning, "A policy has neither podSelector nor rules",
			"It isolates every pod of the namespace, and lets nobody in, or out where policyTypes lists Egress. Select pods and list rules; to mean it, write `podSelector: {}`.",
		},
		{"wrong-type", asError, "A value has another type than its field", "The object cannot be read. See the field's definition: `kubectl explain l7policy.spec`."},
		{
			"unknown-field", asError, "A key that the object does not have",
			"In a policy or MeshConfig, what the key was meant to close would stay open, so the object is not taken. In other objects it is a warning, as the key has no effect. Correct its spelling or its place.",
		},
		{"policy-dry-run", asNotice, "A policy is only tried out", "It isolates nothing, refuses nothing, and makes no NetworkPolicy. Write `enforcement: Enforce` when its dry run shows nothing unexpected."},
		{"policy-selects-nothing", asWarning, "A policy selects no pod", "It has no effect now. Check the selector and the namespace. A server tells of it as a notice, since a policy may come before its pods."},
	}
}

// peerKinds are what validation finds in peers and ports.
func peerKinds() []Kind {
	return []Kind{
		{"cidr", asError, "A block of addresses is not understood", "The rule is left out of an Allow, and means anybody in a Deny. Write a block such as 10.0.0.0/8, without bits after the prefix."},
		{"except", asError, "An exception lies outside its block, or is all of it", "The rule is left out of an Allow, and means anybody in a Deny. List blocks inside the cidr only."},
		{"ip-block-alone", asError, "A peer has an ipBlock beside other fields", "Addresses and pods cannot be ANDed. Make the ipBlock a peer of its own."},
		{"peer-empty", asError, "A peer names nobody", "`from: [{}]` reads as nobody and might mean anybody. Name whom the peer means; for anybody, remove the whole list."},
		{"empty-means-any", asWarning, "A list of peers or ports is written and empty", "As in NetworkPolicy, it means anybody, or every port, and not nobody. Leave it out, or list what is meant."},
		{"service-account", asError, "A service account's name is none", "Give the account's name alone, without its namespace."},
		{"port", asError, "A port is neither a number nor a port's name", "Use 1 to 65535 without quotes, or the name of a container port."},
		{"end-port", asError, "endPort does not end a range", "It needs a numeric port, and may not be below it."},
		{"protocol", asError, "The protocol is none", "Use TCP, UDP or SCTP."},
		{"http-over-tcp", asError, "A rule with http names a port of UDP or SCTP", "HTTP is spoken over TCP. Take the http block or the port out of the rule."},
	}
}

// httpKinds are what validation finds in http.
func httpKinds() []Kind {
	return []Kind{
		{"empty-list", asError, "A list is written and empty", "It reads as none and would mean any. Remove the field if anything may match, else list what does."},
		{"header-name", asError, "A header's name cannot be matched", "Pseudo-headers and Host have fields of their own; other names are tokens."},
		{"header-type", asError, "A header's match type is none", "Use Exact, RegularExpression, Present, Absent, NotExact or NotRegularExpression."},
		{"header-value", asError, "A header's value does not go with its match", "Present and Absent take no value, the others need one, without control characters and surrounding space."},
		{"host", asError, "A host is no name", "Write a name, or `*.` and a name, without scheme, port and trailing dot."},
		{"http-empty", asError, "http, or an entry of it, is empty", "It could mean any request or none. Remove http for any; say what an entry matches."},
		{"method", asError, "A method is none", "Write it in upper case, as it is sent."},
		{"path", asError, "A path is not in the form in which paths are compared", "Paths are normalized and lose their query before a rule is asked: a path that is not so would match nothing."},
		{
			"literal-asterisk", asWarning, "An asterisk in a literal path stands for itself",
			"There are no wildcards in Exact and PathPrefix: an Allow lets nobody in by it, and a Deny refuses nobody. End the path before the asterisk, as a PathPrefix, or write a RegularExpression.",
		},
		{"path-deny-size", asError, "The paths of a Deny are too long together", "A Deny matches every spelling of a path, which takes more room. Split the policy in two."},
		{"path-type", asError, "A path's match type is none", "Use Exact, PathPrefix or RegularExpression."},
		{
			"regular-expression", asError, "A regular expression is refused",
			"It is not RE2, too large for Envoy, or looks at what it may not, such as the query. The rule is left out of an Allow, and matches anything in a Deny.",
		},
		{"not-expressible", asError, "Part of a rule cannot be said to Envoy", "It is left out of an Allow, and denies more in a Deny. Validation refuses what leads here, so please report how you came by it."},
	}
}

// ruleKinds are rules that do not do what they say.
func ruleKinds() []Kind {
	return []Kind{
		{
			"http-never-matches", asWarning, "No request satisfies an entry of http",
			"Conditions on one header exclude each other, or no normalized path is matched. Nothing is let in, or refused, by the entry. Computed over all requests, not tried out.",
		},
		{"path-never-matches", asWarning, "No request has a path of a list", "The path could never arrive: normalization would change it, or the guard refuses it. The list's other paths stand."},
		{"rule-never-matches", asWarning, "No request satisfies a rule", "None of its http entries can be satisfied. An Allow lets nobody in by it, a Deny refuses nobody."},
		{"method-not-served", asWarning, "A method is none that a sidecar serves", "Over HTTP/1 the sidecar refuses it before any rule is asked, so it is likely a slip. Correct the method."},
		{
			"header-not-served", asWarning, "A header's name is one that sidecars refuse",
			"Names with an underscore are refused, as applications read them as if they had a dash: no request has the header. Write it with dashes, or annotate the pods with `policy.pilot-lite.io/allow-underscore-headers`.",
		},
		{"rule-on-reserved-port", asWarning, "A rule names ports of the sidecar's own", "15000 to 15099 are never opened by policies. Name the application's port."},
		{
			"rule-shadowed", asWarning, "All that a rule allows is refused by Denies",
			"For every caller, port and request that the rule matches now, on every workload that it governs, an enforced Deny matches too, and a Deny beats every Allow. Remove the rule, or narrow the Deny.",
		},
		{
			"rule-subsumed", asNotice, "Another rule matches all that a rule does",
			"Without the rule nothing would change now. Often the other one is wider than it should be: a rule without http beside one with it makes the http worthless.",
		},
		{
			"http-rule-on-tcp-port", asWarning, "A rule with http names a port that does not speak HTTP",
			"There it lets nobody in, or in a Deny refuses everything. Have a Service give the port `appProtocol: http`, or a name that begins with http.",
		},
		{"http-rule-on-excluded-port", asError, "A rule with http names a port that goes around the sidecar", "Nobody can tell requests apart there, so the companion shuts the port. Capture the port, or write a rule without http."},
		{"named-port-unknown", asWarning, "No container declares a port of that name", "An Allow opens nothing by it, a Deny refuses on every port. Declare the port, or write its number."},
		{"named-port-differs", asError, "A named port has several numbers, and no label tells the pods apart", "The companion opens none of them. Write the number, or split the policy."},
		{"named-port-in-egress", asError, "An egress rule names a port by name", "Each callee may number it otherwise: an Allow opens nothing by it, a Deny refuses every port. Write the number."},
		{"port-not-declared", asWarning, "A rule names a port that no callee has", "No container declares it and no Service leads there, so it is likely a slip. Correct the number, or declare the port."},
		{"port-of-service", asWarning, "A rule names a Service's port, and calls to it arrive at another", "Policies, like NetworkPolicies, see the pod's port. Write the targetPort."},
	}
}

// meaningKinds are names and selectors that mean nobody, or others than they seem to.
func meaningKinds() []Kind {
	return []Kind{
		{"peers-mean-nobody", asNotice, "A rule's peers mean no pod that runs now", "The rule matches nothing until such a pod runs. Check the selectors if one does."},
		{"pod-selector-matches-nothing", asWarning, "A peer's podSelector matches no pod", "A peer without namespaceSelector stays in the policy's own namespace. Correct the selector, or add a namespaceSelector to the same peer."},
		{"namespace-selector-matches-nothing", asWarning, "A peer's namespaceSelector matches no namespace", "Every namespace has the label `kubernetes.io/metadata.name`. In files, only namespaces that stand there are known."},
		{"account-without-pods", asWarning, "No pod runs as a service account that a peer names", "The account may not exist, or not in that namespace. Correct the name, or the peer's selectors."},
		{
			"caller-not-stamped", asWarning, "A caller runs as the account, and lacks the label that says so",
			"Accounts are known by the label that the injector stamps, on both layers: a pod without a sidecar matches no account. Inject it and create it again.",
		},
		{"caller-on-host-network", asWarning, "A peer selects a pod on the host's network", "Its address is its node's, so no selector means it. Name the nodes' addresses with an ipBlock."},
		{"ip-block-of-pods", asNotice, "A block of addresses holds pods", "Pods' addresses change hands, and some network plugins never match a pod by a block. Name pods with a podSelector."},
		{"host-without-service", asWarning, "A host looks like a Service's, and there is no such Service", "Hardly anybody sends it. Correct the name; a bare name means a Service of the policy's own namespace."},
		{"host-of-other-pods", asNotice, "A host is a Service's that leads to other pods", "Requests with that host arrive there, unless a gateway keeps the host that it was sent. Write a host of these pods' Service."},
	}
}

// workloadKinds are what stands open, and what is left out of the protection.
func workloadKinds() []Kind {
	return []Kind{
		{"workload-unprotected", asWarning, "Nobody protects workloads", "No enforced policy selects their pods for ingress, so everybody may call them. A notice in a namespace that has neither policies nor injection."},
		{"denied-only", asNotice, "Only Deny policies select workloads", "A Deny never isolates: everybody may ask everything that it does not name. Add an Allow that says who may call."},
		{"network-policy-alone", asNotice, "Only NetworkPolicies of others stand before workloads", "Whom they let in may ask anything. Add an Allow that says what."},
		{"pod-without-sidecar", asWarning, "A policy selects pods that carry no sidecar", "Nobody can tell requests apart there: rules with http let nobody in. Inject the pods and create them again."},
		{"selected-on-host-network", asWarning, "A policy selects pods on the host's network", "Neither a sidecar nor a NetworkPolicy stands before them. Take hostNetwork away."},
		{"excluded-port", asWarning, "A port goes around the sidecar", "The annotation leaves it out of the capture, so the NetworkPolicy alone fences it. A notice where no policy selects the pod."},
		{"server-first-port", asWarning, "An application greets its callers first", "Until the caller's first byte only the NetworkPolicy stands before the greeting."},
		{"server-first-ignored", asWarning, "A port that speaks HTTP is listed as server-first", "An HTTP server never speaks first. Take the port out of the annotation."},
		{"relaxed", asNotice, "A pod's annotation relaxes its sidecar", "It passes requests that others refuse. Remove the annotation when the application no longer needs it."},
		{"mesh-relaxed", asNotice, "The mesh's settings relax the protection", "Namespaces may opt out of injection, or everybody may read metrics. Narrow the setting when nobody needs it."},
		{"bad-annotation", asError, "A pod's annotation is not understood", "It has no effect, and the hardened default stands. Correct its value."},
		{"port-protocol-conflict", asWarning, "Services disagree on a port's protocol", "The port is plain TCP then, which closes its http rules. Give it one appProtocol."},
		{"reserved-port", asWarning, "An application uses a port of the sidecar's own", "Nobody can reach it there. Move it out of 15000 to 15099."},
		{"bound-port-clash", asError, "Two entries of a bound sidecar clash", "The later is left out. Give every entry a port and a socket of its own."},
		{"address-taken", asWarning, "Two live pods claim one address", "No rule knows the older one by it. Wait for one to end, or correct the address."},
		{"name-taken", asWarning, "A pod template has the name of another workload", "It is left out. Rename it, or list its pods."},
		{"plumbing-means-nobody", asWarning, "What isolated pods need to live means no pod", "The settings' selectors for DNS or the control plane match nothing, so pods whose egress is isolated are cut off."},
		{"bad-mesh-config", asError, "The mesh's settings are refused", "The last good ones stay in force; at start there are none, and nothing is served."},
	}
}

// layerKinds are where L3/4 and L7 differ.
func layerKinds() []Kind {
	return []Kind{
		{"layers-disagree", asError, "A NetworkPolicy shuts what a rule allows", "Callers that the policy allows are cut off. Open it in the NetworkPolicy that is named, or remove that."},
		{"egress-shuts", asNotice, "A caller's own egress policies shut what a rule allows", "The rule lets it in, and it cannot leave. Open the caller's egress, or take it out of the rule."},
		{"network-policy-wider", asWarning, "A NetworkPolicy of somebody else's lets pass what no policy allows", "NetworkPolicies are a union, so the kernel's fence is as wide as that. The sidecar still refuses. Narrow the NetworkPolicy."},
		{"l4-wider", asNotice, "L3/4 lets pass what no policy allows", "NetworkPolicy cannot say it more exactly, so the sidecar alone refuses it."},
		{"deny-not-subtractable", asError, "What a Deny refuses cannot be taken out of a companion", "In ingress the sidecar alone refuses it; egress is cut back. Name the callers by selector in both policies, or by address in both."},
		{"too-many-entries", asError, "A companion would have too many entries", "What the Denies leave of the policy takes more than 256 entries or exceptions beyond its own, or more steps to find than are taken. Write fewer or simpler Denies for the same pods."},
		{"network-policy-invalid", asError, "A NetworkPolicy is not understood", "The API server would have refused it; here it fails closed."},
	}
}

// fileKinds are what reading files finds.
func fileKinds() []Kind {
	return []Kind{
		{"duplicate-object", asError, "An object stands twice", "Which of the two was meant nobody knows. Remove one."},
		{"file-too-large", asError, "A file is larger than 8 MiB", "Split it."},
		{"no-kind", asError, "An object has no kind", "Write apiVersion, kind and metadata."},
		{"no-name", asError, "An object has no name", "Write metadata.name."},
		{"not-text", asError, "A file is not text", "Write YAML in UTF-8, or remove it from the folder."},
		{"skipped-kind", asNotice, "An object decides no verdict", "It is skipped."},
		{
			"unknown-kind", asError, "An object's apiVersion and kind do not belong together",
			"One of our group has no kind of ours, an L7Policy another group, or a kind of Kubernetes' own another version: skipped, it would be missed. Write the apiVersion and the kind that are meant, for policies `policy.pilot-lite.io/v1alpha1` and `L7Policy`.",
		},
		{"unreadable-file", asError, "A file cannot be read, or is not YAML", "None of its objects is taken. Write objects as `kubectl apply` takes them."},
	}
}
