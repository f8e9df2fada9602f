package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func begin(t testing.TB, now time.Time, l Lifetimes) *state {
	t.Helper()
	a, err := newAuthority(now, l.Authority)
	if err != nil {
		t.Fatal(err)
	}
	return &state{signing: a}
}

func advance(t testing.TB, s *state, now time.Time, l Lifetimes) *state {
	t.Helper()
	next, err := s.advance(now, l)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func trusts(bundle []byte, c *x509.Certificate, now time.Time) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	_, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, DNSName: name})
	return err
}

// Over thirty years, with a look every week: whoever was given the bundle within the last two years trusts what is signed now, and what was signed before is
// trusted by whoever is given the bundle now, until it ends.
func TestABundleIsGoodForTheOverlap(t *testing.T) {
	t.Parallel()
	l := DefaultLifetimes()
	const step = 7 * 24 * time.Hour
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := begin(t, start, l)
	type handed struct {
		at     time.Time
		bundle []byte
	}
	var bundles []handed
	var leaves []*x509.Certificate
	authorities := map[string]bool{}
	for now := start; now.Before(start.Add(30 * year)); now = now.Add(step) {
		next := advance(t, s, now, l)
		if settled := advance(t, next, now, l); settled != next {
			t.Fatalf("%s: two steps at once", now)
		}
		s = next
		bundle := s.bundle()
		if n := len(bundles); n == 0 || string(bundles[n-1].bundle) != string(bundle) {
			bundles = append(bundles, handed{now, bundle})
		} else {
			bundles[n-1].at = now // it was still handed out
		}
		leaf, err := s.signing.issue([]string{name}, ownID(), now, l.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		authorities[string(leaf.issuer.Raw)] = true
		if !leaf.certificate.NotAfter.After(now.Add(l.Leaf - time.Minute)) {
			t.Fatalf("%s: a certificate that ends with its authority, on %s", now, leaf.certificate.NotAfter)
		}
		for _, h := range bundles {
			if h.at.After(now.Add(-l.Overlap)) {
				if err := trusts(h.bundle, leaf.certificate, now); err != nil {
					t.Fatalf("%s: who was given the bundle of %s does not trust what is signed now: %v", now, h.at, err)
				}
			}
		}
		leaves = append(leaves, leaf.certificate)
		for _, c := range leaves {
			if c.NotAfter.After(now) {
				if err := trusts(bundle, c, now); err != nil {
					t.Fatalf("%s: a certificate that holds until %s is not trusted: %v", now, c.NotAfter, err)
				}
			} else {
				leaves = leaves[1:]
			}
		}
		if all, err := decodeBundle(bundle); err != nil || len(all) > 3 {
			t.Fatalf("%s: %d authorities in the bundle, %v", now, len(all), err)
		}
	}
	if len(authorities) < 4 {
		t.Errorf("%d authorities signed in thirty years: nothing was rotated", len(authorities))
	}
}

// A control plane that was away for years goes on with what it has.
func TestAfterALongTimeAway(t *testing.T) {
	t.Parallel()
	l := DefaultLifetimes()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	withSuccessor := advance(t, begin(t, start, l), start.Add(6*year+time.Hour), l)
	if withSuccessor.next == nil {
		t.Fatal("no successor")
	}
	for _, c := range []struct {
		name    string
		from    *state
		now     time.Time
		usable  bool
		signing *x509.Certificate
	}{
		{"before a successor was due", begin(t, start, l), start.Add(9 * year), true, nil},
		{"its successor is not known long enough, but it is about to end", withSuccessor, start.Add(10*year - 24*time.Hour), true, withSuccessor.next.certificate},
		{"it has ended, its successor has not", withSuccessor, start.Add(11 * year), true, withSuccessor.next.certificate},
		{"both have ended", withSuccessor, start.Add(17 * year), false, nil},
		{"it has ended and has no successor", begin(t, start, l), start.Add(11 * year), false, nil},
	} {
		if err := c.from.usable(c.now); (err == nil) != c.usable {
			t.Errorf("%s: usable: %v, want %v", c.name, err, c.usable)
		}
		if !c.usable {
			continue
		}
		got := advance(t, c.from, c.now, l)
		if c.signing != nil && !got.signing.certificate.Equal(c.signing) {
			t.Errorf("%s: the successor does not sign", c.name)
		}
		if got.usable(c.now) != nil {
			t.Errorf("%s: what follows is not usable", c.name)
		}
	}
}

// The certificate says exactly who it is, and is for servers and clients.
func TestALeaf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := begin(t, now, DefaultLifetimes())
	l, err := s.signing.issue([]string{name, "other"}, ownID(), now, 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := l.certificate
	type shape struct {
		Names  []string
		URIs   []string
		Usage  []x509.ExtKeyUsage
		CA     bool
		Curve  elliptic.Curve
		Before time.Time
		After  time.Time
	}
	got := shape{Names: c.DNSNames, Usage: c.ExtKeyUsage, CA: c.IsCA, Before: c.NotBefore, After: c.NotAfter}
	for _, u := range c.URIs {
		got.URIs = append(got.URIs, u.String())
	}
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); ok {
		got.Curve = key.Curve
	}
	want := shape{
		Names: []string{name, "other"}, URIs: []string{"spiffe://cluster.local/ns/pilot-lite-system/sa/pilot-lite"}, Curve: elliptic.P256(),
		Usage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		Before: now.Add(-5 * time.Minute), After: now.Add(30 * 24 * time.Hour),
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b elliptic.Curve) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if err := trusts(s.bundle(), c, now); err != nil {
		t.Error(err)
	}
	if a := s.signing.certificate; !a.IsCA || !a.MaxPathLenZero || a.KeyUsage != x509.KeyUsageCertSign || !a.NotAfter.Equal(now.Add(10*year)) {
		t.Errorf("authority: %+v", a)
	}
}

func TestWhenALeafIsDue(t *testing.T) {
	t.Parallel()
	l := DefaultLifetimes()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, other := begin(t, now, l), begin(t, now, l)
	signed, err := s.signing.issue([]string{name}, ownID(), now, l.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name string
		leaf *leaf
		s    *state
		now  time.Time
		want bool
	}{
		{"none yet", nil, s, now, true},
		{"fresh", signed, s, now, false},
		{"before two thirds", signed, s, now.Add(19 * day), false},
		{"after two thirds", signed, s, now.Add(21 * day), true},
		{"ended", signed, s, now.Add(31 * day), true},
		{"its issuer does not sign any more", signed, other, now, true},
		{"the clock was set back by a minute", signed, s, now.Add(-time.Minute), false},
		{"the clock was set back by an hour", signed, s, now.Add(-time.Hour), true},
	} {
		if got := c.leaf.due(c.s, c.now); got != c.want {
			t.Errorf("%s: due is %v", c.name, got)
		}
	}
}

func TestLifetimesThatCannotWork(t *testing.T) {
	t.Parallel()
	if err := DefaultLifetimes().check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Lifetimes){
		"no leaf": func(l *Lifetimes) { l.Leaf = 0 },
		"a successor that signs before it is known": func(l *Lifetimes) { l.Overlap = l.Leaf },
		"a successor that comes too late":           func(l *Lifetimes) { l.Successor = l.Overlap },
		"a successor at once":                       func(l *Lifetimes) { l.Successor = l.Authority },
	} {
		l := DefaultLifetimes()
		change(&l)
		if l.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
