package rbac_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// What rules have in common is written once, and holds of each of them all the same: of a request in one frame no rule of another one decides.
func TestPortsAndMethodsInCommonAreWrittenOnce(t *testing.T) {
	t.Parallel()
	frames := []struct {
		port    uint16
		methods []string
	}{{8080, []string{"GET", "HEAD"}}, {8080, []string{"POST", "PUT"}}, {9090, []string{"GET", "HEAD"}}, {7070, []string{"PATCH", "DELETE"}}}
	for _, c := range []struct{ rules, frames, written int }{{10, 1, 1}, {60, 1, 1}, {60, 2, 2}, {60, 3, 3}, {60, 4, 60}} {
		for _, action := range []model.Action{model.Allow, model.Deny} {
			p := rbac.Policy{Ref: model.PolicyRef{Namespace: "shop", Name: "p"}, Action: action}
			for i := range c.rules {
				f := frames[i%c.frames]
				p.Rules = append(p.Rules, rbac.Rule{
					Name: fmt.Sprint(i), Ports: []model.PortRange{{Protocol: model.TCP, From: f.port, To: f.port}},
					HTTP: []model.HTTPMatch{{Methods: f.methods, Paths: []model.PathMatch{{Type: model.Exact, Value: fmt.Sprintf("/item%d", i)}}}},
				})
			}
			slots := rbac.Compile(rbac.Input{Policies: []rbac.Policy{p}})
			filter, err := envoy.Unpack(slots.HTTP.GetTypedConfig())
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.rules {
				for k, f := range frames {
					r := parse(t, fmt.Sprintf("%s /item%d HTTP/1.1\r\nHost: cart\r\n\r\n", f.methods[1], i))
					r.Port = f.port
					got := filter.Decide(r).Name
					if want := fmt.Sprintf("shop/p/%d", i); (got == want) != (k == i%c.frames) {
						t.Fatalf("%s of %d rules in %d frames: port %d, %s %s: %s decides", action, c.rules, c.frames, f.port, f.methods[1], r.HTTP.Path, got)
					}
				}
			}
			http, _ := open(t, slots)
			text := prototext.Format(http)
			if n := strings.Count(text, "GET|HEAD") + strings.Count(text, "POST|PUT") + strings.Count(text, "PATCH|DELETE"); action == model.Allow && n != c.written {
				t.Errorf("%d rules in %d frames name methods %d times, want %d", c.rules, c.frames, n, c.written)
			}
		}
	}
}
