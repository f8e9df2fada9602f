package prove_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The file of --mesh-config is followed as the others are, and what it says reaches the proxy.
func TestMeshConfigIsFollowed(t *testing.T) {
	t.Parallel()
	mesh := func(kilobytes string) string {
		return "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {http: {maxRequestHeadersKB: " + kilobytes + "}}\n"
	}
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	file := writeFile(t, "mesh.yaml", mesh("37"))
	s.serve("--mesh-config", file)
	proxy := s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	limit := func(want string) {
		t.Helper()
		proxy.Eventually("the limit is "+want, func() error {
			text, err := proxy.Admin(http.MethodGet, "/config_dump?resource=dynamic_listeners")
			if err == nil && !strings.Contains(text, `"max_request_headers_kb": `+want) {
				err = fmt.Errorf("it is not")
			}
			return err
		})
	}
	limit("37")
	s.place(file, mesh("many"))
	s.eventually("the error is in the log", func() error {
		if !containsAll(s.log(), []string{"mesh.yaml", "MeshConfig", "maxRequestHeadersKB"}) {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	limit("37")
	s.place(file, mesh("41"))
	limit("41")
	s.wantVerdicts("after it all", frontOnly)
}
