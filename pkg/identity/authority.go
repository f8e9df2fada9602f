// Package identity makes the control plane's own certificates: an authority of its own, kept in a Secret that all replicas share, and a certificate that each
// replica signs for itself. Input: a client for that Secret, names and a clock. Output: TLS settings for servers and clients, and the bundle that proxies and the
// API server trust. Entry points: Manager; NewWebhooks, which gives the webhooks that trust; and NewFiles, for a certificate that is given.
package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"
)

// Lifetimes say how long certificates hold and when they are replaced.
type Lifetimes struct {
	Authority time.Duration // of an authority
	// Before its end by this much an authority gets a successor, which joins the bundle.
	Successor time.Duration
	// The successor signs once it has been in the bundle for this long: whoever was given a bundle before has been restarted by then.
	Overlap time.Duration
	Leaf    time.Duration // of a replica's certificate; a third before its end it is replaced
}

const year = 365 * 24 * time.Hour

// DefaultLifetimes give a bundle two years: a sidecar is given it as its pod is injected, so a pod that lives for longer wants a restart every two years.
func DefaultLifetimes() Lifetimes {
	const day = 24 * time.Hour
	return Lifetimes{Authority: 10 * year, Successor: 4 * year, Overlap: 2 * year, Leaf: 30 * day}
}

// check says why a successor would come too late, or sign too early.
func (l Lifetimes) check() error {
	if l.Leaf <= 0 || l.Leaf >= l.Overlap || l.Overlap >= l.Successor || l.Successor >= l.Authority {
		return fmt.Errorf("lifetimes %+v: want 0 < Leaf < Overlap < Successor < Authority", l)
	}
	return nil
}

// How far a certificate's beginning lies before it was made: clocks differ. An authority that a replica makes whose clock is far ahead must be good at once.
const (
	backdated          = 5 * time.Minute
	authorityBackdated = 24 * time.Hour
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// state is what the Secret holds.
type state struct {
	signing authority
	next    *authority          // in the bundle, and does not sign yet
	retired []*x509.Certificate // in the bundle until they end
}

func newAuthority(now time.Time, lifetime time.Duration) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("make a key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "pilot-lite CA " + serial.Text(16)[:8]}, NotBefore: now.Add(-authorityBackdated), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, fmt.Errorf("sign: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("sign: %w", err)
	}
	return authority{certificate, key}, nil
}

func serialNumber() (*big.Int, error) {
	const bits = 127 // RFC 5280, 4.1.2.2: positive and at most 20 octets
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), bits))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	return n.Add(n, new(big.Int).Lsh(big.NewInt(1), bits)), nil
}

// advance is the state that should follow at a time: itself, where nothing is to be done. One step at a time: an authority is never made and put to use at once.
func (s *state) advance(now time.Time, l Lifetimes) (*state, error) {
	ended := func(c *x509.Certificate) bool { return now.After(c.NotAfter) }
	out := &state{signing: s.signing, next: s.next, retired: slices.DeleteFunc(slices.Clone(s.retired), ended)}
	end := s.signing.certificate.NotAfter
	switch {
	case s.next == nil && now.After(end.Add(-l.Successor)):
		next, err := newAuthority(now, l.Authority)
		if err != nil {
			return nil, err
		}
		out.next = &next
	case s.next != nil && (now.After(s.next.certificate.NotBefore.Add(authorityBackdated+l.Overlap)) || now.After(end.Add(-l.Leaf))):
		// What it signs must not outlive it, so it hands over before it ends, overlap or not.
		out.signing, out.next = *s.next, nil
		if !ended(s.signing.certificate) {
			out.retired = append(out.retired, s.signing.certificate)
		}
	case len(out.retired) == len(s.retired):
		return s, nil
	}
	return out, nil
}

// usable says why a state cannot be gone on from: every authority that could sign has ended.
func (s *state) usable(now time.Time) error {
	last := s.signing.certificate.NotAfter
	if s.next != nil && s.next.certificate.NotAfter.After(last) {
		last = s.next.certificate.NotAfter
	}
	if now.After(last) {
		return fmt.Errorf("%s: the authority ended on %s", keyCertificate, last.UTC().Format(time.DateOnly))
	}
	return nil
}

// bundle is every authority that is trusted, in PEM.
func (s *state) bundle() []byte {
	all := []*x509.Certificate{s.signing.certificate}
	if s.next != nil {
		all = append(all, s.next.certificate)
	}
	var out bytes.Buffer
	for _, c := range append(all, s.retired...) {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // to memory
	}
	return out.Bytes()
}

// leaf is a replica's certificate, and who signed it.
type leaf struct {
	certificate *x509.Certificate
	key         crypto.Signer
	issuer      *x509.Certificate
}

// due says whether a certificate is to be replaced: there is none, its issuer does not sign any more, two thirds of its time are over, or the clock was set back to
// before its beginning.
func (l *leaf) due(s *state, now time.Time) bool {
	if l == nil || !l.issuer.Equal(s.signing.certificate) {
		return true
	}
	from, until := l.certificate.NotBefore, l.certificate.NotAfter
	return now.Before(from) || now.After(until.Add(-until.Sub(from)/3))
}

// issue signs a replica's certificate, for servers and clients: its names, and exactly one URI, which says who it is.
func (a *authority) issue(names []string, id *url.URL, now time.Time, lifetime time.Duration) (*leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	end := now.Add(lifetime)
	if end.After(a.certificate.NotAfter) {
		end = a.certificate.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "pilot-lite"}, NotBefore: now.Add(-backdated), NotAfter: end, DNSNames: names, URIs: []*url.URL{id},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return &leaf{certificate: c, key: key, issuer: a.certificate}, nil
}
