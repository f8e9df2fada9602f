package kube_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// etcdAway: without its store an API server tells nothing new, and what was read last stays.
func (c *cluster) etcdAway(t *testing.T) {
	v, s := c.view(t), c.story(t, "etcd")
	v.tells(t, "at first", s)
	c.KillEtcd()
	v.stale(t, "meanwhile", kinds()...) // although its watches go on, from its memory
	if err := v.told(s); err != nil {
		t.Errorf("what was read last does not stay: %v", err)
	}
	c.RestartEtcd()
	s.next(t)
	v.tells(t, "afterwards", s)
	v.stale(t, "afterwards")
}

// compaction: a watch that cannot go on where it was is followed by a list, and there is nothing in between.
func (c *cluster) compaction(t *testing.T) {
	var g gate
	who := c.User(account)
	who.Wrap(g.wrap)
	v, s := c.viewBy(t, who, staleAfter), c.story(t, "compaction")
	v.tells(t, "at first", s)
	g.shut.Store(true)
	v.stale(t, "when the watches have ended", kinds()...)
	for range 3 {
		s.next(t)
	}
	c.Compact(t)
	c.Stop()
	c.Restart() // it has forgotten what it remembered
	g.shut.Store(false)
	v.tells(t, "afterwards", s)
	v.says(t, "too old resource version")
}

// gate refuses connections while it is shut, so that watches wait to go on where they were.
type gate struct{ shut atomic.Bool }

func (g *gate) wrap(next http.RoundTripper) http.RoundTripper { return gated{next, g} }

type gated struct {
	http.RoundTripper
	g *gate
}

func (x gated) RoundTrip(r *http.Request) (*http.Response, error) {
	if x.g.shut.Load() {
		return nil, syscall.ECONNREFUSED
	}
	return x.RoundTripper.RoundTrip(r)
}

// restored: resource versions go back. What is missing in the backup is gone, and that is told.
func (c *cluster) restored(t *testing.T) {
	s := c.story(t, "restored")
	before := *s
	restore := c.Backup(t)
	v := c.viewBy(t, c.User(account, "system:masters"), staleAfter)
	c.policy(t, "later", 1)
	for range 5 {
		s.next(t)
	}
	v.tells(t, "at first", s)
	restore()
	v.tells(t, "after the restoration", &before)
	v.says(t, "objects are gone", "kind=l7policies", c.namespace+"/later (Allow, generation 1)")
	v.says(t, "level=ERROR", "restored from a backup", "kind=l7policies")
	if v.metric(t, "pilot_lite_objects_gone_total", v1alpha1.Resource) != 1 {
		t.Error("the metric does not tell")
	}
	s.chapter = before.chapter
	s.next(t)
	v.tells(t, "in the end", s)
}

// definitions: a version that is not served any more, or a definition that cannot be read, says nothing of the policies: they stay. That the definition is deleted
// deletes them, which is done and said.
func (c *cluster) definitions(t *testing.T) {
	crds := dynamic.NewForConfigOrDie(c.Config()).Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"))
	const name = v1alpha1.Resource + "." + v1alpha1.GroupName
	serve := func(served bool) {
		t.Helper()
		patch := fmt.Sprintf(`[{"op":"replace","path":"/spec/versions/0/served","value":%t}]`, served)
		_, err := crds.Patch(t.Context(), name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
		must(t, c, err)
	}
	v, s := c.view(t), c.story(t, "definitions")
	v.tells(t, "at first", s)
	serve(false)
	v.says(t, "level=ERROR", "kind=l7policies", "install the definition")
	v.stale(t, "without the version", v1alpha1.Resource)
	if err := v.told(s); err != nil {
		t.Errorf("the policies do not stay: %v", err)
	}
	late := c.view(t)
	late.says(t, "level=ERROR", "kind=l7policies", "install the definition")
	if _, complete := late.Snapshot(); complete {
		t.Error("a snapshot without a list of policies")
	}
	serve(true)
	v.stale(t, "with the version")
	late.tells(t, "with the version", s)
	if v.metric(t, "pilot_lite_objects_gone_total") > 0 {
		t.Error("something was taken for deleted")
	}

	v.letGo("policy")
	late.letGo("policy")
	must(t, c, crds.Delete(t.Context(), name, metav1.DeleteOptions{}))
	apitest.Eventually(t, patience, "all policies are gone", func() error {
		if n := len(v.Policies()); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
	v.says(t, "level=ERROR", "kind=l7policies", "everything of the kind is gone")
	if v.metric(t, "pilot_lite_kind_undefined") != 1 {
		t.Error("the metric does not tell")
	}
	c.InstallCRDs(t)
	s.generation = c.policy(t, s.name, 1)
	v.tells(t, "with a new definition", s)
}
