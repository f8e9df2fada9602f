package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Secrets is what is asked of the API server: the typed client for Secrets of one namespace has it.
type Secrets interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*corev1.Secret, error)
	Create(ctx context.Context, s *corev1.Secret, o metav1.CreateOptions) (*corev1.Secret, error)
	Update(ctx context.Context, s *corev1.Secret, o metav1.UpdateOptions) (*corev1.Secret, error)
}

// SecretName is the Secret that holds the authority.
const SecretName = "pilot-lite-ca"

// Config is what a Manager needs.
type Config struct {
	Secrets   Secrets
	Namespace string   // the Secret's, for messages and labels
	Names     []string // DNS names of the control plane
	ID        *url.URL // its SPIFFE ID
	Lifetimes Lifetimes
	Now       func() time.Time // time.Now where nil
	Logger    *slog.Logger
	// Interval is how often the Secret is read again; a minute where 0.
	Interval time.Duration
}

// Manager keeps a replica's certificate fresh, and knows whom to trust.
type Manager struct {
	Config

	mu      sync.Mutex
	state   *state
	version string // of the Secret
	leaf    *tls.Certificate
	issuer  *x509.Certificate // of the leaf
	bundle  []byte
	pool    *x509.CertPool
	changed chan struct{}
}

// New returns a manager; Start makes its first certificate.
func New(c Config) *Manager {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Interval == 0 {
		c.Interval = time.Minute
	}
	if c.Lifetimes == (Lifetimes{}) {
		c.Lifetimes = DefaultLifetimes()
	}
	return &Manager{Config: c, changed: make(chan struct{}, 1)}
}

const retryInterval = 2 * time.Second

// Start reads the authority, or makes it, and returns when there is a certificate. While the API server is away it waits; a Secret that holds something else is an error.
func (m *Manager) Start(ctx context.Context) error {
	for {
		err := m.refresh(ctx)
		var broken *brokenError
		if err == nil || errors.As(err, &broken) {
			return err
		}
		m.Logger.Warn("the authority cannot be read yet", "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("read the authority: %w", err)
		case <-time.After(retryInterval):
		}
	}
}

// Run keeps the certificate fresh until ctx is done. What goes wrong leaves what there is.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(m.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := m.refresh(ctx); err != nil && ctx.Err() == nil {
			m.Logger.Error("the authority could not be read again: the present certificate stays in use", "error", err)
		}
	}
}

// brokenError is a Secret that cannot be used, and that only a person may replace.
type brokenError struct {
	namespace string
	err       error
}

func (e *brokenError) Error() string {
	return fmt.Sprintf("Secret %s/%s: %v: restore it from a backup; to start with a new authority, delete it and restart the control plane, then every injected pod",
		e.namespace, SecretName, e.err)
}

func (e *brokenError) Unwrap() error { return e.err }

// refresh reads the Secret, makes or advances the authority, and signs a new certificate where that is due.
func (m *Manager) refresh(ctx context.Context) error {
	secret, err := m.Secrets.Get(ctx, SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if secret, err = m.create(ctx); apierrors.IsAlreadyExists(err) {
			secret, err = m.Secrets.Get(ctx, SecretName, metav1.GetOptions{})
		}
	}
	if err != nil {
		return err
	}
	s, err := m.decode(secret)
	if err != nil {
		return err
	}
	next, err := s.advance(m.Now(), m.Lifetimes)
	if err != nil {
		return err
	}
	if next != s {
		if secret, err = m.update(ctx, secret, next); err != nil {
			return fmt.Errorf("advance the authority: %w", err) // another replica may have; it is read again
		}
		m.Logger.Info("the authority was advanced", "successor", next.next != nil, "retired", len(next.retired))
	}
	return m.use(next, secret.ResourceVersion)
}

func (m *Manager) decode(secret *corev1.Secret) (*state, error) {
	m.mu.Lock()
	known := m.state
	if secret.ResourceVersion == "" || secret.ResourceVersion != m.version {
		known = nil
	}
	m.mu.Unlock()
	if known != nil {
		return known, nil
	}
	s, err := decode(secret.Data)
	if err != nil {
		return nil, &brokenError{m.Namespace, err}
	}
	if m.Now().After(s.signing.certificate.NotAfter) {
		return nil, &brokenError{m.Namespace, fmt.Errorf("the authority ended on %s", s.signing.certificate.NotAfter.Format(time.DateOnly))}
	}
	return s, nil
}

func (m *Manager) create(ctx context.Context) (*corev1.Secret, error) {
	signing, err := newAuthority(m.Now(), m.Lifetimes.Authority)
	if err != nil {
		return nil, err
	}
	data, err := (&state{signing: signing}).encode()
	if err != nil {
		return nil, err
	}
	return m.Secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: SecretName, Namespace: m.Namespace, Labels: map[string]string{"app.kubernetes.io/name": "pilot-lite"}},
		Type:       corev1.SecretTypeOpaque, Data: data,
	}, metav1.CreateOptions{})
}

// update writes on condition that nobody has written since it was read.
func (m *Manager) update(ctx context.Context, secret *corev1.Secret, s *state) (*corev1.Secret, error) {
	data, err := s.encode()
	if err != nil {
		return nil, err
	}
	secret = secret.DeepCopy()
	secret.Data = data
	return m.Secrets.Update(ctx, secret, metav1.UpdateOptions{})
}

// use takes over a state, and signs a certificate where there is none, or where its issuer no longer signs, or a third before its end.
func (m *Manager) use(s *state, version string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.Now()
	due := m.leaf == nil || !m.issuer.Equal(s.signing.certificate) || now.After(m.leaf.Leaf.NotAfter.Add(-m.Lifetimes.Leaf/3))
	if due {
		certificate, key, err := s.signing.issue(m.Names, m.ID, now, m.Lifetimes.Leaf)
		if err != nil {
			return err
		}
		m.leaf = &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}
		m.issuer = s.signing.certificate
		m.Logger.Info("signed a certificate", "names", m.Names, "until", certificate.NotAfter)
	}
	bundle := s.bundle()
	m.state, m.version = s, version
	if string(bundle) == string(m.bundle) {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	m.bundle, m.pool = bundle, pool
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return nil
}

// Bundle is every authority that is trusted, in PEM.
func (m *Manager) Bundle() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bundle
}

// Changed receives a value after the bundle changed.
func (m *Manager) Changed() <-chan struct{} { return m.changed }
