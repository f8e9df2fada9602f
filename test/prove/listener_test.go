package prove_test

import (
	"fmt"
	"net/http"
	"testing"
)

// edit is one edit of cart's policies, and who may do what after it.
type edit struct {
	name, file, body string // a body of "" removes the file
	want             string
}

// edits are a round of every kind of policy edit: add, change, turn, try out and remove.
func edits() []edit {
	const friend = "from: [{podSelector: {matchLabels: {app: front}}}]"
	return []edit{
		{"add an Allow", "a.yaml", policy("a", "ingress: [{name: r, "+friend+"}]"), frontOnly},
		{"narrow it to GET", "a.yaml", policy("a", "ingress: [{name: r, "+friend+", http: [{methods: [GET]}]}]"), "front GET 200"},
		{"turn it into a Deny", "a.yaml", policy("a", "action: Deny, ingress: [{name: r, "+friend+", ports: [{port: 8080}], http: [{methods: [GET]}]}]"), "front POST 200, front TCP, stranger GET 200, stranger POST 200, stranger TCP"},
		{"only try it out", "a.yaml", policy("a", "action: Deny, enforcement: DryRun, ingress: [{name: r}]"), everyone},
		{"add an Allow of nothing", "b.yaml", policy("b", "ingress: []"), nothing},
		{"remove it", "b.yaml", "", everyone},
		{"enforce the Deny", "a.yaml", policy("a", "action: Deny, ingress: [{name: r}]"), nothing},
		{"let everybody in", "a.yaml", policy("a", "ingress: [{}]"), everyone},
		{"deny the stranger", "b.yaml", policy("b", "action: Deny, ingress: [{name: s, from: [{podSelector: {matchLabels: {app: stranger}}}]}]"), frontOnly},
		{"remove that Deny", "b.yaml", "", everyone},
	}
}

// Whatever a policy edit does, it takes effect without a change of any listener or cluster: their bytes, their versions and their counters stay.
func TestPolicyEditsLeaveListenersAlone(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	s.serve()
	proxy := s.envoy("shop/cart")
	s.eventuallyVerdicts("without a policy it is open", everyone)
	dump := func() string {
		text := ""
		for _, resource := range []string{"dynamic_listeners", "dynamic_active_clusters"} {
			part, err := proxy.Admin(http.MethodGet, "/config_dump?resource="+resource)
			if err != nil {
				t.Fatal(err)
			}
			text += part
		}
		return text
	}
	before, counters := dump(), listenerStats(proxy)
	for round := range 3 {
		for _, e := range edits() {
			if e.body == "" {
				s.remove(e.file)
			} else {
				s.replace(e.file, e.body)
			}
			s.eventuallyVerdicts(fmt.Sprintf("round %d: %s", round, e.name), e.want)
		}
	}
	if after := dump(); after != before {
		t.Errorf("the listeners or clusters changed:\n%s\nbefore:\n%s", after, before)
	}
	if got := listenerStats(proxy); got != counters {
		t.Errorf("counters: %s\nbefore:   %s", got, counters)
	}
}

// A response that is under way goes on through edits, also through those that would refuse it now.
func TestStreamSurvivesEdits(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	s.serve()
	s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.web.String()+"/ticks", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport(front)}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	next := func() {
		t.Helper()
		if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
			t.Fatalf("the stream was cut: %v", err)
		}
	}
	next()
	for _, e := range edits() {
		if e.body == "" {
			s.remove(e.file)
		} else {
			s.replace(e.file, e.body)
		}
		s.eventuallyVerdicts(e.name, e.want)
		s.webApp.tick <- struct{}{}
		next()
	}
}
