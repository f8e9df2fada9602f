package model

// HTTPMatch matches a request when hosts, methods, paths and headers all do; nil means any.
type HTTPMatch struct {
	Hosts   []Host
	Methods []string
	Paths   []PathMatch
	Headers []HeaderMatch
}

// Host is a name in lower case without port and trailing dot. Wildcard: it stands for one label or more before "."+Name.
type Host struct {
	Name     string
	Wildcard bool
	// Aliases are further spellings of the same Service (short names, with the namespace, with .svc, with the cluster domain, its ClusterIPs).
	Aliases []string
}

// MatchType says how a path or a header is compared.
type MatchType string

// Match types; the last four are for headers only.
const (
	Exact    MatchType = "Exact"
	Prefix   MatchType = "PathPrefix"
	Regex    MatchType = "RegularExpression"
	Present  MatchType = "Present"
	Absent   MatchType = "Absent"
	NotExact MatchType = "NotExact"
	NotRegex MatchType = "NotRegularExpression"
)

// PathMatch compares a normalized path without its query.
type PathMatch struct {
	Type  MatchType
	Value string
}

// HeaderMatch compares a header. Name is lower case.
type HeaderMatch struct {
	Name  string
	Type  MatchType
	Value string
}
