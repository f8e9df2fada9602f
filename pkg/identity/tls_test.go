package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// handshake connects a client to a server, exchanges a byte each way, and returns the server's view.
func handshake(t testing.TB, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	type result struct {
		state tls.ConnectionState
		err   error
	}
	served := make(chan result, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			served <- result{err: err}
			return
		}
		conn := tls.Server(raw, server)
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = io.CopyN(conn, conn, 1)
		served <- result{conn.ConnectionState(), err}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, clientErr := (&tls.Dialer{Config: client}).DialContext(ctx, "tcp", l.Addr().String())
	if clientErr == nil {
		defer func() { _ = conn.Close() }()
		if _, clientErr = conn.Write([]byte("x")); clientErr == nil {
			_, clientErr = io.ReadFull(conn, make([]byte, 1))
		}
	}
	got := <-served
	if clientErr != nil {
		return got.state, clientErr
	}
	return got.state, got.err
}

// sidecar is a client that knows the bundle and the name, as a sidecar does, and shows no certificate.
func sidecar(m *Manager) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(m.Bundle())
	return &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
}

func TestServerAndPeers(t *testing.T) {
	t.Parallel()
	var s secrets
	a, b := started(t, config(&s)), started(t, config(&s))
	if state, err := handshake(t, a.ServerTLS(), sidecar(a)); err != nil || state.Version != tls.VersionTLS13 || IsPeer(state) {
		t.Errorf("a sidecar: %v, version %x", err, state.Version)
	}
	if state, err := handshake(t, a.PeerTLS(), sidecar(a)); err != nil || IsPeer(state) {
		t.Errorf("a sidecar at the port that peers use too: %v", err)
	}
	if state, err := handshake(t, a.PeerTLS(), b.ClientTLS()); err != nil || !IsPeer(state) {
		t.Errorf("another replica: %v, a peer: %v", err, IsPeer(state))
	}
	for what, change := range map[string]func(*tls.Config){
		"TLS 1.2":      func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"another name": func(c *tls.Config) { c.ServerName = "pilot-lite.elsewhere.svc" },
		"another authority": func(c *tls.Config) {
			c.RootCAs = x509.NewCertPool()
			c.RootCAs.AddCert(begin(t, time.Now(), DefaultLifetimes()).signing.certificate)
		},
	} {
		c := sidecar(a)
		change(c)
		if _, err := handshake(t, a.PeerTLS(), c); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	var other secrets
	stranger := started(t, config(&other))
	if _, err := handshake(t, stranger.PeerTLS(), a.ClientTLS()); err == nil {
		t.Error("a replica talks to a control plane of another authority")
	}
}

// No session is resumed: it would stand on what was checked before a rotation (CVE-2022-21654).
func TestSessionsAreNotResumed(t *testing.T) {
	t.Parallel()
	var s secrets
	m := started(t, config(&s))
	client := sidecar(m)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for range 3 {
		state, err := handshake(t, m.ServerTLS(), client)
		if err != nil || state.DidResume {
			t.Errorf("resumed: %v, %v", state.DidResume, err)
		}
	}
}

// nulURI is an extension with one URI that has a NUL in it, which no library of ours would make.
func nulURI(t testing.TB) pkix.Extension {
	t.Helper()
	const uniformResourceIdentifier = 6
	value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: uniformResourceIdentifier, Bytes: []byte(ownID().String() + "\x00.evil")}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}

// A client that shows a certificate must be the control plane itself, whoever signed it and whatever else it says.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	var s secrets
	m := started(t, config(&s))
	ours := m.state.signing
	theirs := begin(t, time.Now(), DefaultLifetimes()).signing
	id := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	good := func() *x509.Certificate {
		return &x509.Certificate{NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{ownID()}, ExtKeyUsage: both}
	}
	for what, c := range map[string]struct {
		accepted bool
		signer   authority
		change   func(*x509.Certificate)
	}{
		"its own":             {true, ours, func(*x509.Certificate) {}},
		"another authority's": {false, theirs, func(*x509.Certificate) {}},
		"ended":               {false, ours, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }},
		"not begun":           {false, ours, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }},
		"no URI":              {false, ours, func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{name} }},
		"two URIs":            {false, ours, func(c *x509.Certificate) { c.URIs = append(c.URIs, id("spiffe://cluster.local/ns/shop/sa/cart")) }},
		"its own twice":       {false, ours, func(c *x509.Certificate) { c.URIs = append(c.URIs, ownID()) }},
		"another's, then its": {false, ours, func(c *x509.Certificate) {
			c.URIs = append([]*url.URL{id("spiffe://cluster.local/ns/shop/sa/cart")}, c.URIs...)
		}},
		"a sidecar's":           {false, ours, func(c *x509.Certificate) { c.URIs = []*url.URL{id("spiffe://cluster.local/ns/shop/sa/cart")} }},
		"another trust domain":  {false, ours, func(c *x509.Certificate) { c.URIs = []*url.URL{id("spiffe://evil/ns/pilot-lite-system/sa/pilot-lite")} }},
		"a longer path":         {false, ours, func(c *x509.Certificate) { c.URIs = []*url.URL{id(ownID().String() + "/x")} }},
		"an escaped NUL":        {false, ours, func(c *x509.Certificate) { c.URIs = []*url.URL{id(ownID().String() + "%00")} }},
		"a NUL":                 {false, ours, func(c *x509.Certificate) { c.URIs, c.ExtraExtensions = nil, []pkix.Extension{nulURI(t)} }},
		"for servers only":      {false, ours, func(c *x509.Certificate) { c.ExtKeyUsage = both[:1] }},
		"for signing code only": {false, ours, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }},
	} {
		template := good()
		c.change(template)
		certificate := sign(t, c.signer, template)
		client := sidecar(m)
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
		state, err := handshake(t, m.PeerTLS(), client)
		if accepted := err == nil && IsPeer(state); accepted != c.accepted {
			t.Errorf("%s: accepted: %v, %v", what, accepted, err)
		}
	}
	// And one that signed itself.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := good()
	template.SerialNumber = big.NewInt(1)
	self := sign(t, authority{certificate: template, key: key}, template)
	client := sidecar(m)
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return self, nil }
	if _, err := handshake(t, m.PeerTLS(), client); err == nil {
		t.Error("self-signed: accepted")
	}
}

func sign(t testing.TB, a authority, template *x509.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.KeyUsage = big.NewInt(7), x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Open connections stay while certificates and authorities change, and new ones get what is new.
func TestOpenConnectionsStay(t *testing.T) {
	t.Parallel()
	var s secrets
	c := config(&s)
	now := time.Now()
	c.Now = func() time.Time { return now }
	m := started(t, c)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := tls.NewListener(l, m.ServerTLS())
	defer func() { _ = server.Close() }()
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	echo := func(conn net.Conn) {
		t.Helper()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	dial := func() *tls.Conn {
		t.Helper()
		client := sidecar(m)
		client.Time = func() time.Time { return now }
		conn, err := (&tls.Dialer{Config: client}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		echo(conn)
		return conn.(*tls.Conn)
	}
	old := dial()
	defer func() { _ = old.Close() }()
	seen := map[string]bool{}
	for range 12 { // years
		now = now.Add(year)
		for range 2 {
			if err := m.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		echo(old)
		conn := dial()
		seen[string(conn.ConnectionState().PeerCertificates[0].AuthorityKeyId)] = true
		_ = conn.Close()
	}
	if len(seen) < 2 {
		t.Error("the authority did not change")
	}
}

// Before the first certificate nothing is served, and nobody is trusted: an empty pool would mean the system's authorities.
func TestBeforeTheFirstCertificate(t *testing.T) {
	t.Parallel()
	var s secrets
	m := New(config(&s))
	if _, err := handshake(t, m.ServerTLS(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}); err == nil {
		t.Error("a connection without a certificate")
	}
	if err := m.verify([]*x509.Certificate{{}}, x509.ExtKeyUsageAny); err == nil || !strings.Contains(err.Error(), "no authority yet") {
		t.Errorf("got %v", err)
	}
}
