// Package sarif writes findings as SARIF 2.1.0 (OASIS), which code hosts and editors show beside the lines that they are about. Input: findings, and the kinds that there
// are. Output: a Log, to be marshalled as JSON. Pure. One entry point: New.
package sarif

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/lint"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	schema  = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	version = "2.1.0"
	project = "https://github.com/pilot-lite/pilot-lite"
	// fingerprint names how a finding is known again when its line has moved: by code, object and field.
	fingerprint = "objectField/v1"
)

// Log is a SARIF log with one run.
type Log struct {
	Schema  string `json:"$schema"`
	Version string `json:"version"`
	Runs    []Run  `json:"runs"`
}

// Run is what one tool found.
type Run struct {
	Tool    Tool     `json:"tool"`
	Results []Result `json:"results"`
}

// Tool is who found it.
type Tool struct {
	Driver Driver `json:"driver"`
}

// Driver is the program and its rules.
type Driver struct {
	Name           string `json:"name"`
	Version        string `json:"version"`
	InformationURI string `json:"informationUri"`
	Rules          []Rule `json:"rules"`
}

// Rule describes a kind of finding.
type Rule struct {
	ID                   string        `json:"id"`
	ShortDescription     Message       `json:"shortDescription"`
	FullDescription      Message       `json:"fullDescription"`
	Help                 Message       `json:"help"`
	HelpURI              string        `json:"helpUri"`
	DefaultConfiguration Configuration `json:"defaultConfiguration"`
}

// Configuration is how grave a kind usually is.
type Configuration struct {
	Level string `json:"level"`
}

// Message is text; Markdown is the same for those who can show it.
type Message struct {
	Text     string `json:"text"`
	Markdown string `json:"markdown,omitempty"`
}

// Result is one finding.
type Result struct {
	RuleID              string            `json:"ruleId"`
	RuleIndex           int               `json:"ruleIndex"`
	Level               string            `json:"level"`
	Message             Message           `json:"message"`
	Locations           []Location        `json:"locations"`
	PartialFingerprints map[string]string `json:"partialFingerprints"`
}

// Location is a line of a file, where one is known, and the object.
type Location struct {
	PhysicalLocation *PhysicalLocation `json:"physicalLocation,omitempty"`
	LogicalLocations []LogicalLocation `json:"logicalLocations"`
}

// PhysicalLocation is a line of a file.
type PhysicalLocation struct {
	ArtifactLocation ArtifactLocation `json:"artifactLocation"`
	Region           Region           `json:"region"`
}

// ArtifactLocation is a file.
type ArtifactLocation struct {
	URI string `json:"uri"`
}

// Region is a line.
type Region struct {
	StartLine int `json:"startLine"`
}

// LogicalLocation is an object, and a field of it.
type LogicalLocation struct {
	FullyQualifiedName string `json:"fullyQualifiedName"`
	Kind               string `json:"kind"`
}

// New is the log of some findings, each of one of the kinds.
func New(toolVersion string, kinds []lint.Kind, found []model.Diagnostic) *Log {
	driver := Driver{Name: "pilot-lite", Version: toolVersion, InformationURI: project, Rules: make([]Rule, 0, len(kinds))}
	for _, k := range kinds {
		driver.Rules = append(driver.Rules, Rule{
			ID: k.Code, ShortDescription: Message{Text: k.Title + "."}, FullDescription: Message{Text: k.Title + ". " + plain(k.Help)},
			Help: Message{Text: plain(k.Help), Markdown: k.Help}, HelpURI: project + "/blob/main/docs/lint.md#" + k.Code, DefaultConfiguration: Configuration{level(k.Severity)},
		})
	}
	results := make([]Result, 0, len(found))
	for _, d := range found {
		results = append(results, result(kinds, d))
	}
	return &Log{Schema: schema, Version: version, Runs: []Run{{Tool: Tool{driver}, Results: results}}}
}

func result(kinds []lint.Kind, d model.Diagnostic) Result {
	text := d.Consequence
	if d.Remedy != "" {
		text += "; " + d.Remedy
	}
	object := strings.TrimSuffix(d.Object.String()+" "+d.Field, " ")
	sum := sha256.Sum256([]byte(d.Code + "\n" + object))
	return Result{
		RuleID: d.Code, RuleIndex: slices.IndexFunc(kinds, func(k lint.Kind) bool { return k.Code == d.Code }), Level: level(d.Severity),
		Message:             Message{Text: object + ": " + text},
		Locations:           []Location{{PhysicalLocation: place(d.Object.Source), LogicalLocations: []LogicalLocation{{FullyQualifiedName: object, Kind: "resource"}}}},
		PartialFingerprints: map[string]string{fingerprint: hex.EncodeToString(sum[:16])},
	}
}

// place reads "file:line"; nil for a finding that stands in no file.
func place(source string) *PhysicalLocation {
	file, number := source, "1"
	if i := strings.LastIndexByte(source, ':'); i >= 0 {
		file, number = source[:i], source[i+1:]
	}
	line, err := strconv.Atoi(number)
	if file == "" || file == "-" || err != nil || line < 1 {
		return nil
	}
	uri := url.URL{Path: file}
	if strings.HasPrefix(file, "/") {
		uri.Scheme = "file"
	}
	return &PhysicalLocation{ArtifactLocation{strings.TrimPrefix(uri.String(), "./")}, Region{line}}
}

// level is what SARIF calls a severity.
func level(s model.Severity) string {
	switch s {
	case model.SeverityError:
		return "error"
	case model.SeverityWarning:
		return "warning"
	case model.SeverityNotice:
	}
	return "note"
}

// plain takes the marks of code out of a text.
func plain(text string) string { return strings.ReplaceAll(text, "`", "") }
