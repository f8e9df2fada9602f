package xds

import (
	"strings"
	"testing"
)

// A node id that is taken has exactly two parts, neither of which can be read as a path or as several lines.
func FuzzNodeID(f *testing.F) {
	for _, seed := range []string{"shop/cart", "", "/", "a/b/c", "shop/..", "shop/cart\n", "SHOP/cart", "shop/cart\x00", "shop/c..t"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if !validNodeID(id) {
			return
		}
		namespace, pod, found := strings.Cut(id, "/")
		if !found || namespace == "" || pod == "" || strings.ContainsAny(id, " \t\r\n\x00\\") || strings.Count(id, "/") != 1 || strings.HasPrefix(pod, ".") {
			t.Errorf("%q was taken", id)
		}
	})
}

// No text but the one that Token made for a node passes for it.
func FuzzToken(f *testing.F) {
	key := []byte("0123456789abcdef0123456789abcdef")
	good, err := Token(key, "shop/cart")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, "", "v1..", good + "x", good[:len(good)-1], "v1.c2hvcC9jYXJ0."} {
		f.Add(seed)
	}
	a, err := NewTokenAuthenticator(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := a.verify(token); err == nil {
			if want, err := Token(key, id); err != nil || want != token {
				t.Errorf("%q passes for %q", token, id)
			}
		}
	})
}
