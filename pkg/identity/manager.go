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
const SecretName = "pilot-lite-ca" //nolint:gosec // a name

// Config is what a Manager needs.
type Config struct {
	Secrets   Secrets
	Namespace string   // the Secret's, for messages and labels
	Names     []string // DNS names of the control plane
	ID        *url.URL // its SPIFFE ID
	Lifetimes Lifetimes
	Now       func() time.Time // time.Now where nil
	Logger    *slog.Logger
	Metrics   *Metrics // may be nil
	// Interval is how often the Secret is read again; 15 s where 0.
	Interval time.Duration
}

const (
	defaultInterval = 15 * time.Second
	// retryInterval is how soon the first read is tried again, and attempts how often a write that another replica was faster with.
	retryInterval = 2 * time.Second
	attempts      = 5
	// requestTime bounds one request: an API server that does not answer must not keep a certificate from being renewed.
	requestTime = 10 * time.Second
)

// Manager keeps a replica's certificate fresh, and knows whom to trust.
type Manager struct {
	config Config

	mu      sync.Mutex
	state   *state // nil before the first
	version string // of the Secret that it was read from
	leaf    *leaf
	bundle  []byte
	pool    *x509.CertPool
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
		c.Interval = defaultInterval
	}
	if c.Lifetimes == (Lifetimes{}) {
		c.Lifetimes = DefaultLifetimes()
	}
	return &Manager{config: c}
}

// Start reads the authority, or makes it, and returns when there is a certificate. While the API server is away it waits; a Secret that holds something else is an error.
func (m *Manager) Start(ctx context.Context) error {
	if err := m.config.Lifetimes.check(); err != nil {
		return err
	}
	for said := ""; ; {
		err := m.refresh(ctx)
		var broken *brokenError
		if err == nil || errors.As(err, &broken) {
			return err
		}
		if err.Error() != said {
			said = err.Error()
			m.config.Logger.Warn("the authority cannot be read yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("read the authority: %w", err)
		case <-time.After(retryInterval):
		}
	}
}

// Run keeps the certificate fresh until ctx is done. What goes wrong leaves the authority that there is, which goes on signing.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(m.config.Interval)
	defer tick.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		text := ""
		if err := m.refresh(ctx); err != nil && ctx.Err() == nil {
			text = err.Error()
			if text != said {
				m.config.Logger.Error("the authority could not be read again: the one that was read last stays in use", "error", err)
			}
		}
		said = text
	}
}

// brokenError is a Secret that cannot be used, and that only a person may replace.
type brokenError struct {
	namespace string
	err       error
}

func (e *brokenError) Error() string {
	return fmt.Sprintf("Secret %s/%s: %v: restore it from a backup; to start with a new authority, scale the control plane to 0, delete the Secret, scale it up again, "+
		"and restart every injected pod, since each trusts the authority that it was injected with", e.namespace, SecretName, e.err)
}

func (e *brokenError) Unwrap() error { return e.err }

// refresh follows the Secret, and renews the certificate also where the Secret cannot be read: it must not end because the API server is away.
func (m *Manager) refresh(ctx context.Context) error {
	err := m.follow(ctx)
	m.config.Metrics.readable(err == nil)
	if err != nil {
		m.mu.Lock()
		s, version := m.state, m.version
		m.mu.Unlock()
		if s != nil {
			err = errors.Join(err, m.use(s, version))
		}
	}
	return err
}

// follow reads the Secret, makes or advances the authority, and takes it over.
func (m *Manager) follow(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		s, version, err := m.step(ctx)
		switch {
		case err == nil:
			return m.use(s, version)
		case attempt < attempts && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)):
			// Another replica was faster. What it wrote is what both use.
		default:
			return err
		}
	}
}

// step is one read of the Secret, and one write where one is due.
func (m *Manager) step(ctx context.Context) (*state, string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	secret, err := m.config.Secrets.Get(ctx, SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return m.create(ctx)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read Secret %s/%s: %w", m.config.Namespace, SecretName, err)
	}
	s, err := m.read(secret)
	if err != nil {
		return nil, "", err
	}
	next, err := s.advance(m.config.Now(), m.config.Lifetimes)
	if err != nil || next == s {
		return s, secret.ResourceVersion, err
	}
	data, err := next.encode()
	if err != nil {
		return nil, "", err
	}
	// The write is refused if somebody wrote since: the resource version goes with it.
	secret = secret.DeepCopy()
	secret.Data = data
	if secret, err = m.config.Secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return nil, "", fmt.Errorf("advance the authority in Secret %s/%s: %w", m.config.Namespace, SecretName, err)
	}
	m.config.Logger.Info("the authority was advanced", "signs until", next.signing.certificate.NotAfter, "successor", next.next != nil, "retired", len(next.retired))
	return next, secret.ResourceVersion, nil
}

// read is the state that a Secret holds.
func (m *Manager) read(secret *corev1.Secret) (*state, error) {
	m.mu.Lock()
	known, version := m.state, m.version
	m.mu.Unlock()
	if known != nil && version != "" && version == secret.ResourceVersion {
		return known, nil
	}
	s, err := decode(secret.Data)
	if err == nil {
		err = s.usable(m.config.Now())
	}
	if err != nil {
		return nil, &brokenError{m.config.Namespace, err}
	}
	return s, nil
}

// create makes the Secret, if nobody is faster. What this replica already signs with is put back: a Secret that was deleted by mistake must not cost every sidecar
// its trust.
func (m *Manager) create(ctx context.Context) (*state, string, error) {
	m.mu.Lock()
	s := m.state
	m.mu.Unlock()
	if s == nil {
		signing, err := newAuthority(m.config.Now(), m.config.Lifetimes.Authority)
		if err != nil {
			return nil, "", err
		}
		s = &state{signing: signing}
		m.config.Logger.Info("a new authority was made", "until", signing.certificate.NotAfter)
	} else {
		m.config.Logger.Warn("the Secret of the authority is gone, and is written again from memory", "namespace", m.config.Namespace, "name", SecretName)
	}
	data, err := s.encode()
	if err != nil {
		return nil, "", err
	}
	secret, err := m.config.Secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: SecretName, Namespace: m.config.Namespace, Labels: map[string]string{"app.kubernetes.io/name": "pilot-lite"}},
		Type:       corev1.SecretTypeOpaque, Data: data,
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("write Secret %s/%s: %w", m.config.Namespace, SecretName, err)
	}
	return s, secret.ResourceVersion, nil
}

// use takes over a state, and signs a certificate where one is due.
func (m *Manager) use(s *state, version string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &m.config
	if now := c.Now(); m.leaf.due(s, now) {
		l, err := s.signing.issue(c.Names, c.ID, now, c.Lifetimes.Leaf)
		if err != nil {
			return err
		}
		m.leaf = l
		c.Logger.Info("signed a certificate", "names", c.Names, "until", l.certificate.NotAfter)
	}
	m.state, m.version = s, version
	c.Metrics.ends(s.signing.certificate.NotAfter, m.leaf.certificate.NotAfter)
	bundle := s.bundle()
	if string(bundle) == string(m.bundle) {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	m.bundle, m.pool = bundle, pool
	return nil
}

// Bundle is every authority that is trusted, in PEM.
func (m *Manager) Bundle() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bundle
}

// certificate is the replica's own, as it is at the moment.
func (m *Manager) certificate() (*tls.Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaf == nil {
		return nil, errors.New("there is no certificate yet")
	}
	return &tls.Certificate{Certificate: [][]byte{m.leaf.certificate.Raw}, PrivateKey: m.leaf.key, Leaf: m.leaf.certificate}, nil
}
