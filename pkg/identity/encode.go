package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

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
	bundle, err := decodeBundle(data[keyBundle])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyBundle, err)
	}
	// What is trusted and what signs must go together, else what is signed next would be trusted by nobody.
	if !slices.ContainsFunc(bundle, s.signing.certificate.Equal) {
		return nil, fmt.Errorf("%s does not hold the certificate of %s", keyBundle, keyCertificate)
	}
	if s.next != nil && !slices.ContainsFunc(bundle, s.next.certificate.Equal) {
		return nil, fmt.Errorf("%s does not hold the certificate of %s", keyBundle, keyNext)
	}
	for _, c := range bundle {
		if !c.Equal(s.signing.certificate) && (s.next == nil || !c.Equal(s.next.certificate)) {
			s.retired = append(s.retired, c)
		}
	}
	return s, nil
}

// decodeBundle reads authorities' certificates in PEM, and takes nothing else for a bundle: half of one would be trusted half.
func decodeBundle(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----")) { // pem.Decode would skip to the next block that it can read
			return nil, errors.New("holds something other than certificates in PEM")
		}
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("holds a damaged certificate")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !c.IsCA {
			return nil, fmt.Errorf("the certificate of %q is no authority's", c.Subject.CommonName)
		}
		out = append(out, c)
	}
	return out, nil
}

func decodeAuthority(data map[string][]byte, certificate, key string) (*authority, error) {
	block, _ := pem.Decode(data[certificate])
	if block == nil || block.Type != "CERTIFICATE" {
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
	case !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
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
