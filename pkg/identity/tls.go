package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// ServerTLS is for servers whose clients show no certificate: sidecars, which show a token, and the API server. The certificate is the one of the moment. Sessions
// are not resumed: a resumed session would stand on what was checked before a rotation.
func (m *Manager) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.certificate() },
	}
}

// PeerTLS is for servers that other replicas call too: a client that shows a certificate must be the control plane itself. Whether one is required, the caller's
// handler decides (see IsPeer).
func (m *Manager) PeerTLS() *tls.Config {
	c := m.ServerTLS()
	c.ClientAuth = tls.RequestClientCert
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return nil
		}
		return m.verify(s.PeerCertificates, x509.ExtKeyUsageClientAuth)
	}
	return c
}

// ClientTLS is for calling another replica.
func (m *Manager) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		// The standard check knows names only, and one bundle for good; this one checks the chain against the bundle of the moment, and the identity.
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection verifies
		VerifyConnection:     func(s tls.ConnectionState) error { return m.verify(s.PeerCertificates, x509.ExtKeyUsageServerAuth) },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.certificate() },
	}
}

// verify takes a certificate of the control plane itself: signed by the bundle's authorities, with exactly one URI, its own. Several identities in one certificate
// have been a way around such checks elsewhere (CVE-2022-40716), as have NULs in one (CVE-2025-66220).
func (m *Manager) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	m.mu.Lock()
	pool, want := m.pool, m.config.ID.String()
	m.mu.Unlock()
	if pool == nil { // none would mean the system's authorities
		return errors.New("there is no authority yet")
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, CurrentTime: m.config.Now(), KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if uris := chain[0].URIs; len(uris) != 1 || uris[0].String() != want || strings.ContainsRune(uris[0].String(), 0) {
		return fmt.Errorf("certificate of %v: want exactly %s", uris, want)
	}
	return nil
}

// IsPeer says whether a connection's client proved that it is the control plane itself.
func IsPeer(s tls.ConnectionState) bool { return len(s.PeerCertificates) > 0 }
