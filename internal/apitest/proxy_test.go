package apitest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

// The proxy does what its names say, and etcd forgets, fails and goes back.
func TestAServersFaults(t *testing.T) {
	t.Parallel()
	s := apitest.New(t)
	proxy := s.Proxy(t)
	admin := kubernetes.NewForConfigOrDie(s.Config())
	client := kubernetes.NewForConfigOrDie(proxy.Through(s.Config()))
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
		return err
	}
	answers := func(what string) {
		t.Helper()
		apitest.Eventually(t, time.Minute, "answers "+what, ask)
	}
	answers("at first")
	for name, fault := range map[string]func(){
		"refused": proxy.Refuse, "no way there": func() { proxy.Hold(apitest.ToServer) }, "no way back": func() { proxy.Hold(apitest.ToClient) },
		"slow": func() { proxy.Slow(time.Second) },
	} {
		fault()
		if err := ask(); err == nil {
			t.Errorf("%s: answers", name)
		}
		proxy.Heal()
		answers("after " + name)
	}
	proxy.Orphan()
	if err := ask(); !errors.Is(err, context.DeadlineExceeded) || proxy.Links() == 0 {
		t.Errorf("an orphaned connection: %v, %d are open", err, proxy.Links())
	}
	proxy.Cut()
	answers("over a new connection")

	make := func(name string) *corev1.Namespace {
		t.Helper()
		ns, err := admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	first := make("first")
	restore := s.Backup(t)
	make("second")
	end := s.Full(t)
	if _, err := admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "third"}}, metav1.CreateOptions{}); err == nil {
		t.Error("a full etcd takes a write")
	}
	end()
	make("third")
	s.Compact(t)
	s.Stop()
	s.Restart()
	w, err := admin.CoreV1().Namespaces().Watch(t.Context(), metav1.ListOptions{ResourceVersion: first.ResourceVersion})
	if err == nil {
		e := <-w.ResultChan()
		if w.Stop(); e.Type != watch.Error {
			t.Errorf("a watch from before the compaction: %v", e)
		}
	}
	restore()
	if _, err := admin.CoreV1().Namespaces().Get(t.Context(), "second", metav1.GetOptions{}); err == nil {
		t.Error("a restored etcd has what was made after the backup")
	}
	if _, err := admin.CoreV1().Namespaces().Get(t.Context(), "first", metav1.GetOptions{}); err != nil {
		t.Errorf("a restored etcd has lost what it had: %v", err)
	}
}
