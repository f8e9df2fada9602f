package translate_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// Before any slot has come, the proxy answers and refuses, and no application is touched.
func TestDenyBeforeSlotsCome(t *testing.T) {
	t.Parallel()
	web, db := startHTTPApp(t, freeSocket), startTCPApp(t, freeSocket, "welcome\n")
	webPort, dbPort := freePort(t), freePort(t)
	callee := cart(func(p *model.Pod) {
		p.Proxy.Bound = []model.BoundPort{{Port: 8080, Listen: webPort, Application: web.address()}, {Port: 5432, Listen: dbPort, Application: db.address()}}
	})
	resources := resourcesOf(t, new(translate.Translator), world(callee))
	startProxy(t, withoutSlots(resources))
	if resp, _ := friend().send(t, http.MethodGet, "http://"+webPort.String()+"/", nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("HTTP: got %s, want 403", resp.Status)
	}
	for _, say := range []string{"", "hello\n"} {
		got := friend().talk(t, dbPort, say, 1, 300*time.Millisecond)
		if got.got != "" || (say != "") != got.closed {
			t.Errorf("TCP, saying %q: got %+v", say, got)
		}
	}
	if web.count.Load()+db.connections.Load() != 0 {
		t.Error("an application was reached before any policy had come")
	}
}
