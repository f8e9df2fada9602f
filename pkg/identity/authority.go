// Package identity makes the control plane's own certificates: an authority of its own, kept in a Secret that all replicas share, and a certificate that each
// replica signs for itself. Input: a client for that Secret, names and a clock. Output: TLS settings for servers and clients, and the bundle that proxies and the
// API server trust. Entry point: Manager.
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
	"errors"
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

// DefaultLifetimes: a sidecar is given the bundle as its pod is injected, so pods that live for more than two years want a restart every two years.
func DefaultLifetimes() Lifetimes {
	const day = 24 * time.Hour
	return Lifetimes{Authority: 10 * year, Successor: 4 * year, Overlap: 2 * year, Leaf: 30 * day}
}

// backdated is how far a certificate's beginning lies before it was made: clocks differ.
const backdated = 5 * time.Minute

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
		SerialNumber: serial, Subject: pkix.Name{CommonName: "pilot-lite CA " + serial.Text(16)[:8]}, NotBefore: now.Add(-backdated), NotAfter: now.Add(lifetime),
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

// advance is the state that should follow at a time: itself, where nothing is to be done.
func (s *state) advance(now time.Time, l Lifetimes) (*state, error) {
	out := &state{signing: s.signing, next: s.next, retired: slices.DeleteFunc(slices.Clone(s.retired), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })}
	end := s.signing.certificate.NotAfter
	switch {
	case s.next == nil && now.After(end.Add(-l.Successor)):
		next, err := newAuthority(now, l.Authority)
		if err != nil {
			return nil, err
		}
		out.next = &next
	case s.next != nil && (now.After(s.next.certificate.NotBefore.Add(l.Overlap)) || now.After(end.Add(-l.Leaf))):
		// What it signs must not outlive it, so it hands over before it ends, overlap or not.
		out.signing, out.next = *s.next, nil
		out.retired = append(out.retired, s.signing.certificate)
	case len(out.retired) == len(s.retired):
		return s, nil
	}
	return out, nil
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

// The Secret's keys.
const (
	keyCertificate = "tls.crt"
	keyKey         = "tls.key"
	keyNext        = "next.crt"
	keyNextKey     = "next.key"
	keyBundle      = "ca.crt"
)

func (s *state) encode() (map[string][]byte, error) {
	out := map[string][]byte{keyBundle: s.bundle()}
	put := func(a authority, certificate, key string) error {
		der, err := x509.MarshalECPrivateKey(a.key)
		if err != nil {
			return fmt.Errorf("encode a key: %w", err)
		}
		out[certificate] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
		out[key] = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
		return nil
	}
	if err := put(s.signing, keyCertificate, keyKey); err != nil {
		return nil, err
	}
	if s.next != nil {
		if err := put(*s.next, keyNext, keyNextKey); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// decode reads a state. Whatever is wrong is an error: an authority that sidecars trust must not be made anew because it could not be read.
func decode(data map[string][]byte) (*state, error) {
	signing, err := decodeAuthority(data, keyCertificate, keyKey)
	if err != nil {
		return nil, err
	}
	s := &state{signing: *signing}
	if len(data[keyNext]) > 0 || len(data[keyNextKey]) > 0 {
		if s.next, err = decodeAuthority(data, keyNext, keyNextKey); err != nil {
			return nil, err
		}
	}
	for rest := data[keyBundle]; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return s, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", keyBundle, err)
		}
		if !c.Equal(s.signing.certificate) && (s.next == nil || !c.Equal(s.next.certificate)) {
			s.retired = append(s.retired, c)
		}
	}
}

func decodeAuthority(data map[string][]byte, certificate, key string) (*authority, error) {
	block, _ := pem.Decode(data[certificate])
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate in PEM", certificate)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certificate, err)
	}
	keyBlock, _ := pem.Decode(data[key])
	if keyBlock == nil {
		return nil, fmt.Errorf("%s holds no key in PEM", key)
	}
	k, err := parseKey(keyBlock)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", key, err)
	case !c.IsCA:
		return nil, fmt.Errorf("%s is no authority's certificate", certificate)
	case !k.PublicKey.Equal(c.PublicKey):
		return nil, fmt.Errorf("%s is not the key of %s", key, certificate)
	}
	return &authority{c, k}, nil
}

func parseKey(block *pem.Block) (*ecdsa.PrivateKey, error) {
	if block.Type == "EC PRIVATE KEY" {
		return x509.ParseECPrivateKey(block.Bytes)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an ECDSA key")
	}
	return key, nil
}

// issue signs a replica's certificate, for servers and clients: its names, and exactly one URI, which says who it is.
func (a *authority) issue(names []string, id *url.URL, now time.Time, lifetime time.Duration) (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, nil, err
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
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	return c, key, nil
}
