package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"
)

// What is written is what is read.
func TestASecretHoldsTheState(t *testing.T) {
	t.Parallel()
	l := DefaultLifetimes()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := begin(t, start, l)
	for name, s := range map[string]*state{
		"one authority": s, "with a successor": advance(t, s, start.Add(7*year), l), "with a retired one": advance(t, advance(t, s, start.Add(7*year), l), start.Add(9*year+time.Hour), l),
	} {
		data, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(got.bundle(), s.bundle()) || !got.signing.key.Equal(s.signing.key) || (got.next == nil) != (s.next == nil) || len(got.retired) != len(s.retired) {
			t.Errorf("%s: got another state", name)
		}
	}
}

// A Secret that was damaged, or that is somebody else's, is refused, by the name of the field.
func TestDamagedAndForeignSecrets(t *testing.T) {
	t.Parallel()
	l := DefaultLifetimes()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, other := advance(t, begin(t, start, l), start.Add(7*year), l), begin(t, start, l)
	good, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.encode()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := s.signing.issue([]string{name}, ownID(), start, l.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	leafPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.certificate.Raw})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	truncated := good[keyBundle][:len(good[keyBundle])-40]
	for name, c := range map[string]struct {
		field  string
		change func(map[string][]byte)
	}{
		"nothing in it":  {keyCertificate, func(d map[string][]byte) { clear(d) }},
		"no certificate": {keyCertificate, func(d map[string][]byte) { d[keyCertificate] = []byte("x") }},
		"a damaged certificate": {keyCertificate, func(d map[string][]byte) {
			d[keyCertificate] = bytes.Replace(d[keyCertificate], []byte("M"), []byte("N"), 9)
		}},
		"a key in place of the certificate": {keyCertificate, func(d map[string][]byte) { d[keyCertificate] = d[keyKey] }},
		"no key":                            {keyKey, func(d map[string][]byte) { delete(d, keyKey) }},
		"a key that is none": {keyKey, func(d map[string][]byte) {
			d[keyKey] = []byte("-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n")
		}},
		"another authority's key": {keyKey, func(d map[string][]byte) { d[keyKey] = foreign[keyKey] }},
		"an RSA key": {keyKey, func(d map[string][]byte) {
			d[keyKey] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
		}},
		"a server's certificate":            {keyCertificate, func(d map[string][]byte) { d[keyCertificate] = leafPEM }},
		"half a successor":                  {keyNextKey, func(d map[string][]byte) { delete(d, keyNextKey) }},
		"no bundle":                         {keyBundle, func(d map[string][]byte) { delete(d, keyBundle) }},
		"a bundle of somebody else":         {keyBundle, func(d map[string][]byte) { d[keyBundle] = foreign[keyBundle] }},
		"a bundle that lost its end":        {keyBundle, func(d map[string][]byte) { d[keyBundle] = truncated }},
		"a bundle with something in it":     {keyBundle, func(d map[string][]byte) { d[keyBundle] = append([]byte("-----BEGIN\n"), d[keyBundle]...) }},
		"a bundle that trusts a server":     {keyBundle, func(d map[string][]byte) { d[keyBundle] = append(leafPEM, d[keyBundle]...) }},
		"a bundle with a key in it":         {keyBundle, func(d map[string][]byte) { d[keyBundle] = append(bytes.Clone(d[keyBundle]), d[keyKey]...) }},
		"a bundle that lacks the successor": {keyBundle, func(d map[string][]byte) { d[keyBundle] = d[keyCertificate] }},
		"certificates of somebody else's kind": {keyCertificate, func(d map[string][]byte) {
			d[keyCertificate] = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
		}},
	} {
		data := maps.Clone(good)
		c.change(data)
		if _, err := decode(data); err == nil || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: got %v, want an error about %s", name, err, c.field)
		}
	}
}

// Whatever stands in the Secret, reading it ends with an error or a state that can be written again.
func FuzzDecode(f *testing.F) {
	l := DefaultLifetimes()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	good, err := advance(f, begin(f, start, l), start.Add(7*year), l).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[keyCertificate], good[keyKey], good[keyNext], good[keyNextKey], good[keyBundle])
	f.Fuzz(func(t *testing.T, certificate, key, next, nextKey, bundle []byte) {
		s, err := decode(map[string][]byte{keyCertificate: certificate, keyKey: key, keyNext: next, keyNextKey: nextKey, keyBundle: bundle})
		if err != nil {
			return
		}
		again, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}
