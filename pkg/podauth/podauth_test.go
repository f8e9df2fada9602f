package podauth_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/pilot-lite/pilot-lite/pkg/podauth"
)

func TestATokenOfAPod(t *testing.T) {
	t.Parallel()
	for _, key := range []*signer{newRSA(t, "1"), newEC(t, "1")} {
		server := newAPIServer(key)
		now := time.Now().Truncate(time.Second)
		got, err := present(podauth.New(server.config()), key.token(t, bound(now)))
		if err != nil {
			t.Fatal(err)
		}
		want := podauth.Proof{Node: "shop/cart-1", UID: "pod-uid", Account: "cart", AccountUID: "account-uid", Expires: now.Add(time.Hour)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// What a token says must all be there, and be right.
func TestClaims(t *testing.T) {
	t.Parallel()
	key := newRSA(t, "1")
	a := podauth.New(newAPIServer(key).config())
	now := time.Now()
	const refused, taken = codes.Unauthenticated, codes.OK
	for name, c := range map[string]struct {
		want   codes.Code
		change func(claim)
	}{
		"several audiences, ours among them": {taken, set("aud", []string{"x", audience})},
		"one audience, not in a list":        {taken, set("aud", audience)},
		"the API server's audience":          {refused, set("aud", []string{issuer})},
		"no audience":                        {refused, without("aud")},
		"an empty list of audiences":         {refused, set("aud", []string{})},
		"an audience that begins like ours":  {refused, set("aud", "pilot-lite-system")},
		"an audience in capitals":            {refused, set("aud", "PILOT-LITE")},
		"audiences that are no text":         {refused, set("aud", []any{1, nil})},
		"another issuer":                     {refused, set("iss", "https://evil.example")},
		"an issuer with a slash more":        {refused, set("iss", issuer+"/")},
		"no issuer":                          {refused, without("iss")},
		"ended, within the leeway":           {taken, set("exp", now.Add(-30*time.Second).Unix())},
		"ended":                              {refused, set("exp", now.Add(-2*time.Minute).Unix())},
		"without an end":                     {refused, without("exp")},
		"an end that is null":                {refused, set("exp", nil)},
		"an end that is text":                {refused, set("exp", "2999-01-01")},
		"an end in the year dot":             {refused, set("exp", 0)},
		"an end before all time":             {refused, set("exp", -1e300)},
		"begins later, within the leeway":    {taken, set("nbf", now.Add(30*time.Second).Unix())},
		"begins later":                       {refused, set("nbf", now.Add(2*time.Minute).Unix())},
		"made later":                         {refused, set("iat", now.Add(2*time.Minute).Unix())},
		"another subject":                    {refused, set("sub", "system:serviceaccount:shop:admin")},
		"a user":                             {refused, set("sub", "admin")},
		"no subject":                         {refused, without("sub")},
		"not of Kubernetes":                  {refused, without("kubernetes.io")},
		"not bound to a pod":                 {refused, inKubernetes(without("pod"))},
		"bound to a Secret":                  {refused, inKubernetes(func(c claim) { c["secret"], c["pod"] = c["pod"], nil })},
		"no namespace":                       {refused, inKubernetes(without("namespace"))},
		"no account":                         {refused, inKubernetes(without("serviceaccount"))},
		"no account's UID":                   {refused, inKubernetes(set("serviceaccount", claim{"name": "cart"}))},
		"no pod's name":                      {refused, inKubernetes(set("pod", claim{"uid": "pod-uid"}))},
		"no pod's UID":                       {refused, inKubernetes(set("pod", claim{"name": "cart-1"}))},
		"an empty pod's UID":                 {refused, inKubernetes(set("pod", claim{"name": "cart-1", "uid": ""}))},
		"a pod's name with a slash":          {refused, inKubernetes(set("pod", claim{"name": "x/../cart-1", "uid": "pod-uid"}))},
		"a pod's name with a NUL":            {refused, inKubernetes(set("pod", claim{"name": "cart-1\x00", "uid": "pod-uid"}))},
		"another pod's UID":                  {refused, inKubernetes(set("pod", claim{"name": "cart-1", "uid": "other"}))},
		"a pod that nobody knows":            {codes.Unavailable, inKubernetes(set("pod", claim{"name": "cart-2", "uid": "x"}))},
		"another account of that name":       {refused, inKubernetes(set("serviceaccount", claim{"name": "cart", "uid": "other"}))},
		"another namespace": {codes.Unavailable, func(c claim) {
			c["sub"] = "system:serviceaccount:bank:cart"
			inKubernetes(set("namespace", "bank"))(c)
		}},
		"another account of the pod's namespace": {refused, func(c claim) {
			c["sub"] = "system:serviceaccount:shop:admin"
			inKubernetes(set("serviceaccount", claim{"name": "admin", "uid": "x"}))(c)
		}},
	} {
		_, err := present(a, key.token(t, bound(now, c.change)))
		wants(t, name, c.want, err)
	}
}

func encode(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// Tokens that were not signed by the API server, in every way that has worked somewhere.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	key, ec, stranger := newRSA(t, "1"), newEC(t, "2"), newRSA(t, "1")
	server := newAPIServer(key, ec)
	a := podauth.New(server.config())
	now := time.Now()
	good := key.token(t, bound(now))
	if _, err := present(a, good); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	header, payload, signature := cut(good)
	embedded := func(field string, value any) string {
		sign, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: stranger.key}, (&jose.SignerOptions{}).WithHeader(jose.HeaderKey(field), value).WithHeader("kid", "1"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(bound(now))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := sign.Sign(text)
		if err != nil {
			t.Fatal(err)
		}
		out, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	general := `{"payload":"` + payload + `","signatures":[{"protected":"` + header + `","signature":"` + signature + `"}]}`
	for name, token := range map[string]string{
		"alg none":                               encode(t, claim{"alg": "none", "kid": "1"}) + "." + payload + ".",
		"alg None":                               encode(t, claim{"alg": "None", "kid": "1"}) + "." + payload + ".",
		"alg none with a signature":              encode(t, claim{"alg": "none", "kid": "1"}) + "." + payload + "." + signature,
		"no alg":                                 encode(t, claim{"kid": "1"}) + "." + payload + "." + signature,
		"HS256 with the public key":              signedBy(t, jose.HS256, public, "1", bound(now)),
		"HS256 with the public key's DER":        signedBy(t, jose.HS256, der, "1", bound(now)),
		"HS256 with nothing":                     signedBy(t, jose.HS256, make([]byte, 32), "1", bound(now)),
		"PS256 with the right key":               signedBy(t, jose.PS256, key.key, "1", bound(now)),
		"RS512, which the key is not for":        signedBy(t, jose.RS512, key.key, "1", bound(now)),
		"another key under the same id":          stranger.token(t, bound(now)),
		"a key that nobody knows":                signedBy(t, jose.RS256, stranger.key, "9", bound(now)),
		"no key id":                              signedBy(t, jose.RS256, key.key, "", bound(now)),
		"the id of a key of another kind":        signedBy(t, jose.RS256, key.key, "2", bound(now)),
		"a key id that is a path":                signedBy(t, jose.RS256, stranger.key, "../../dev/null", bound(now)),
		"a key id that is a query":               signedBy(t, jose.RS256, stranger.key, "1' OR '1'='1", bound(now)),
		"a very long key id":                     signedBy(t, jose.RS256, stranger.key, strings.Repeat("k", 4000), bound(now)),
		"a key of its own":                       embedded("jwk", jose.JSONWebKey{Key: stranger.key.Public(), KeyID: "1"}),
		"an address of keys of its own":          embedded("jku", "https://evil.example/jwks"),
		"an address of a certificate of its own": embedded("x5u", "https://evil.example/cert"),
		"a header that must be understood":       embedded("crit", []string{"exp"}),
		"another payload":                        header + "." + encode(t, bound(now, inKubernetes(set("pod", claim{"name": "cart-2", "uid": "x"})))) + "." + signature,
		"no signature":                           header + "." + payload + ".",
		"two parts":                              header + "." + payload,
		"four parts":                             good + "." + signature,
		"five parts, as if encrypted":            header + ".x." + payload + ".x." + signature,
		"JSON form":                              general,
		"JSON form with spaces before it":        "  " + general,
		"a dot":                                  ".",
		"two dots":                               "..",
		"NUL at the end":                         good + "\x00",
		"a space at the end":                     good + " ",
		"padded":                                 good + "==",
		"a signature in the other alphabet":      header + "." + payload + "." + strings.NewReplacer("-", "+", "_", "/").Replace(signature) + "+",
		"huge":                                   good + strings.Repeat("A", 1<<20),
		"deeply nested":                          header + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("[", 9000))) + "." + signature,
		"a huge number for its end":              header + "." + encode(t, bound(now, set("exp", math.MaxFloat64))) + "." + signature,
		"not UTF-8":                              "\xff\xfe." + payload + "." + signature,
	} {
		_, err := present(a, token)
		wants(t, name, codes.Unauthenticated, err)
		for _, secret := range []string{token, signature, "system:serviceaccount", "evil"} {
			if len(secret) > 4 && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error repeats what was sent: %v", name, err)
			}
		}
	}
}

func cut(token string) (header, payload, signature string) {
	parts := strings.Split(token, ".")
	return parts[0], parts[1], parts[2]
}

// A stream shows exactly one token, in exactly one way.
func TestHeaders(t *testing.T) {
	t.Parallel()
	key := newRSA(t, "1")
	a := podauth.New(newAPIServer(key).config())
	good := key.token(t, bound(time.Now()))
	for name, ctx := range map[string]context.Context{
		"no metadata":           context.Background(),
		"no header":             metadata.NewIncomingContext(t.Context(), metadata.MD{}),
		"an empty header":       with(""),
		"two headers":           with("Bearer "+good, "Bearer "+good),
		"a token without a way": with(good),
		"Basic":                 with("Basic " + good),
		"Bearer alone":          with("Bearer "),
		"in another header":     metadata.NewIncomingContext(t.Context(), metadata.MD{"token": {"Bearer " + good}}),
	} {
		_, err := a.Authenticate(ctx)
		wants(t, name, codes.Unauthenticated, err)
	}
}

// What a token proved is held against the pod and the account as they stand, also later.
func TestStanding(t *testing.T) {
	t.Parallel()
	key := newRSA(t, "1")
	for name, c := range map[string]struct {
		want   codes.Code
		change func(*apiServer)
	}{
		"all as it was":                   {codes.OK, func(*apiServer) {}},
		"the pod is gone":                 {codes.Unavailable, func(s *apiServer) { clear(s.pods) }},
		"another pod has its name":        {codes.Unauthenticated, func(s *apiServer) { s.pods["shop/cart-1"] = podauth.Pod{UID: "new", ServiceAccount: "cart"} }},
		"another pod, of another account": {codes.Unauthenticated, func(s *apiServer) { s.pods["shop/cart-1"] = podauth.Pod{UID: "pod-uid", ServiceAccount: "admin"} }},
		"the pod has ended": {codes.Unauthenticated, func(s *apiServer) {
			s.pods["shop/cart-1"] = podauth.Pod{UID: "pod-uid", ServiceAccount: "cart", Ended: true}
		}},
		"the account is gone":                   {codes.Unavailable, func(s *apiServer) { clear(s.accounts) }},
		"the account was deleted and made anew": {codes.Unauthenticated, func(s *apiServer) { s.accounts["shop/cart"] = "new" }},
	} {
		server := newAPIServer(key)
		a := podauth.New(server.config())
		token := key.token(t, bound(time.Now()))
		proof, err := present(a, token)
		if err != nil {
			t.Fatal(err)
		}
		server.change(c.change)
		wants(t, name+", as the stream is open", c.want, a.Standing(proof))
		_, err = present(a, token)
		wants(t, name+", as it comes back", c.want, err)
	}
}

// Whatever is sent, nobody is let in who was not signed, and nothing of it is repeated.
func FuzzAuthenticate(f *testing.F) {
	key := newEC(f, "1")
	a := podauth.New(newAPIServer(key).config())
	now := time.Now()
	good := "Bearer " + key.token(f, bound(now))
	want, err := a.Authenticate(with(good))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, "", "Bearer ", "Bearer a.b.c", good + ".", strings.ToLower(good), "Bearer " + encode(f, claim{"alg": "none"}) + "." + encode(f, bound(now)) + "."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		proof, err := a.Authenticate(with(header))
		if err != nil && header == good || err == nil && proof != want { // base64 has several spellings of one signature
			t.Fatalf("got %+v, %v", proof, err)
		}
		if err != nil && len(header) > 40 && strings.Contains(err.Error(), header[7:40]) {
			t.Fatalf("repeats what was sent: %v", err)
		}
	})
}

// FuzzClaims signs what the fuzzer writes: whatever a token says, it is let in only as the pod that there is.
func FuzzClaims(f *testing.F) {
	key := newEC(f, "1")
	a := podauth.New(newAPIServer(key).config())
	sign, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key.key, KeyID: "1"}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []claim{bound(time.Now()), bound(time.Now(), set("exp", 1e30)), {}} {
		text, err := json.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		signed, err := sign.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		if proof, err := present(a, token); err == nil && (proof.Node != "shop/cart-1" || proof.UID != "pod-uid" || proof.Expires.IsZero()) {
			t.Fatalf("let in as %+v by %s", proof, payload)
		}
	})
}

// BenchmarkAuthenticate measures a token that comes for the first time, and one that comes back.
func BenchmarkAuthenticate(b *testing.B) {
	for name, key := range map[string]*signer{"RS256": newRSA(b, "1"), "ES256": newEC(b, "1")} {
		var tokens []context.Context
		for i := range 500 {
			tokens = append(tokens, with("Bearer "+key.token(b, bound(time.Now(), set("jti", fmt.Sprint(i))))))
		}
		run := func(b *testing.B, fresh int) {
			a := podauth.New(newAPIServer(key).config())
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%fresh == fresh-1 {
					b.StopTimer()
					a = podauth.New(newAPIServer(key).config())
					b.StartTimer()
				}
				if _, err := a.Authenticate(tokens[i%min(fresh, len(tokens))]); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.Run(name+"/first", func(b *testing.B) { run(b, len(tokens)) })
		b.Run(name+"/again", func(b *testing.B) { run(b, math.MaxInt) })
	}
}

func BenchmarkStanding(b *testing.B) {
	key := newEC(b, "1")
	a := podauth.New(newAPIServer(key).config())
	proof, err := present(a, key.token(b, bound(time.Now())))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Standing(proof); err != nil {
			b.Fatal(err)
		}
	}
}
