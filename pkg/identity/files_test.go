package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pair is a certificate of a name and its key, in PEM.
func pair(t testing.TB, name string) (certificate, key []byte) {
	t.Helper()
	now := time.Now()
	s := begin(t, now, DefaultLifetimes())
	l, err := s.signing.issue([]string{name}, ownID(), now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(l.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.certificate.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// served is the name that the files serve with, at a time after the last look.
func served(t testing.TB, f *Files) string {
	t.Helper()
	later := f.looked.Add(lookInterval)
	f.now = func() time.Time { return later }
	c, err := f.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.DNSNames[0]
}

// A hundred times the kubelet swaps the folder; each pair is served from the next look on.
func TestFilesFollowSwaps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	swap := func(n int) {
		data := filepath.Join(dir, "..data-"+strconv.Itoa(n))
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		certificate, key := pair(t, "name-"+strconv.Itoa(n))
		write(t, filepath.Join(data, "tls.crt"), certificate)
		write(t, filepath.Join(data, "tls.key"), key)
		if err := os.Symlink(filepath.Base(data), filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap(0)
	for _, file := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := NewFiles(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if n > 0 {
			swap(n)
		}
		if got, want := served(t, f), "name-"+strconv.Itoa(n); got != want {
			t.Fatalf("served %s, want %s", got, want)
		}
	}
}

// A pair that is half written, does not belong together or is gone leaves the one before, and is said once; when it is whole it is served.
func TestFilesKeepTheLastGoodPair(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	dir := t.TempDir()
	certificateFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if _, err := NewFiles(certificateFile, keyFile, nil); err == nil || !strings.Contains(err.Error(), certificateFile) {
		t.Errorf("without files: %v", err)
	}
	certificate, key := pair(t, "old")
	write(t, certificateFile, certificate)
	write(t, keyFile, key)
	f, err := NewFiles(certificateFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	newCertificate, newKey := pair(t, "new")
	for _, step := range []struct {
		name, want string
		change     func()
	}{
		{"nothing changed", "old", func() {}},
		{"half a certificate", "old", func() { write(t, certificateFile, newCertificate[:100]) }},
		{"the other half is in, its key is not", "old", func() { write(t, certificateFile, newCertificate) }},
		{"the certificate is gone", "old", func() { _ = os.Remove(certificateFile) }},
		{"half a key", "old", func() { write(t, certificateFile, newCertificate); write(t, keyFile, newKey[:50]) }},
		{"both", "new", func() { write(t, keyFile, newKey) }},
		{"an empty file", "new", func() { write(t, keyFile, nil) }},
		{"and back", "new", func() { write(t, keyFile, newKey) }},
	} {
		step.change()
		for range 3 {
			if got := served(t, f); got != step.want {
				t.Errorf("%s: served %s, want %s", step.name, got, step.want)
			}
		}
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 5 {
		t.Errorf("said %d times, want once for each of 5 faults:\n%s", n, log.String())
	}
}
