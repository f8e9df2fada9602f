package identity

import (
	"context"
	"maps"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secrets is a namespace's Secrets with what matters of an API server: one of two creations wins, and writes are refused where somebody wrote in between.
type secrets struct {
	mu     sync.Mutex
	stored *corev1.Secret
	writes int
	down   error // what every request gets
}

func (s *secrets) resource() schema.GroupResource { return schema.GroupResource{Resource: "secrets"} }

func (s *secrets) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	if s.stored == nil {
		return nil, apierrors.NewNotFound(s.resource(), name)
	}
	return s.stored.DeepCopy(), nil
}

func (s *secrets) Create(_ context.Context, o *corev1.Secret, _ metav1.CreateOptions) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	if s.stored != nil {
		return nil, apierrors.NewAlreadyExists(s.resource(), o.Name)
	}
	return s.put(o), nil
}

func (s *secrets) Update(_ context.Context, o *corev1.Secret, _ metav1.UpdateOptions) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	if s.stored == nil || o.ResourceVersion != s.stored.ResourceVersion {
		return nil, apierrors.NewConflict(s.resource(), o.Name, nil)
	}
	return s.put(o), nil
}

func (s *secrets) put(o *corev1.Secret) *corev1.Secret {
	s.writes++
	s.stored = o.DeepCopy()
	s.stored.ResourceVersion = strconv.Itoa(s.writes)
	return s.stored.DeepCopy()
}

// fail makes every request fail from now on; nil ends that.
func (s *secrets) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

// edit changes the Secret as somebody else would; nil data deletes it.
func (s *secrets) edit(data map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if data == nil {
		s.stored = nil
		return
	}
	o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: SecretName}}
	if s.stored != nil {
		o = s.stored.DeepCopy()
	}
	o.Data = data
	s.put(o)
}

func (s *secrets) data() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored == nil {
		return nil
	}
	return maps.Clone(s.stored.Data)
}

const name = "pilot-lite.pilot-lite-system.svc"

func ownID() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/pilot-lite-system/sa/pilot-lite"}
}

// config is a replica's.
func config(s Secrets) Config {
	return Config{Secrets: s, Namespace: "pilot-lite-system", Names: []string{name, "pilot-lite-replicas.pilot-lite-system.svc"}, ID: ownID()}
}

// started is a manager that has a certificate.
func started(t testing.TB, c Config) *Manager {
	t.Helper()
	m := New(c)
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

type runner interface {
	Run(ctx context.Context) error
}

// running runs something for as long as the test.
func running(t testing.TB, r runner) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// shortLifetimes pass in hours what takes years.
func shortLifetimes() Lifetimes {
	return Lifetimes{Authority: 10 * time.Hour, Successor: 4 * time.Hour, Overlap: 2 * time.Hour, Leaf: 30 * time.Minute}
}
