package apitest_test

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

// The server serves our kind, knows who asks, and comes back with what it had after a crash and after a pause.
func TestAServerComesAndGoes(t *testing.T) {
	t.Parallel()
	s := apitest.New(t)
	s.InstallCRDs(t)
	admin := kubernetes.NewForConfigOrDie(s.Config())
	name := s.Namespace(t, "shop", map[string]string{"a": "b"})
	nobody := kubernetes.NewForConfigOrDie(s.User("nobody"))
	if _, err := nobody.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a user without rights gets %v", err)
	}
	get := func(ctx context.Context) error {
		_, err := admin.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		return err
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := get(ctx); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	if err := get(t.Context()); err != nil {
		t.Errorf("after a pause: %v", err)
	}
	s.Stop()
	if err := get(t.Context()); err == nil {
		t.Error("a stopped server answers")
	}
	s.Restart()
	if err := get(t.Context()); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}
