package netpol_test

import (
	"encoding/json"
	"testing"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, c := range netpoltest.Cases(t, "../../../testdata/corpus") {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			companions, found := new(netpol.Builder).Build(model.NewIndex(c.Snapshot(t)))
			k := netpoltest.Kernel(c.UserNetworkPolicies)
			for _, companion := range companions {
				k = append(k, companion.NetworkPolicy)
			}
			check := func(flows []netpoltest.Flow, want bool) {
				for _, f := range flows {
					if got := k.Allows(c.End(t, f.Src), c.End(t, f.Dst), f.Port, f.Proto); got != want {
						text, _ := json.Marshal(companions)
						t.Errorf("%s to %s, %s %d: allowed %t, want %t\n%s\n%v", f.Src, f.Dst, f.Proto, f.Port, got, want, text, found)
					}
				}
			}
			check(c.MustAllow, true)
			check(c.MustDeny, false)
		})
	}
}
