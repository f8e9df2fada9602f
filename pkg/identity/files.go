package identity

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Files is a certificate and its key in files that somebody else replaces: a person, or a mounted Secret, whose symlink swaps. They are looked at as connections
// come, and read again when they changed. A pair that cannot be read, because it is half written or does not belong together, leaves the one before in use.
type Files struct {
	certificate, key string
	logger           *slog.Logger
	now              func() time.Time

	mu     sync.Mutex
	pair   *tls.Certificate
	read   [2]os.FileInfo // of what the pair was read from
	looked time.Time
	said   string // the last complaint
}

// lookInterval bounds how often the files are looked at.
const lookInterval = time.Second

// NewFiles reads the pair for the first time; unlike later, it must be good.
func NewFiles(certificate, key string, logger *slog.Logger) (*Files, error) {
	f := &Files{certificate: certificate, key: key, logger: logger, now: time.Now}
	if f.logger == nil {
		f.logger = slog.New(slog.DiscardHandler)
	}
	if err := f.load(); err != nil {
		return nil, err
	}
	f.looked = f.now()
	return f, nil
}

// ServerTLS serves with the pair of the moment. Sessions are not resumed, as in Manager.ServerTLS.
func (f *Files) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, SessionTicketsDisabled: true,
		GetCertificate: f.GetCertificate,
	}
}

// GetCertificate is the pair of the moment.
func (f *Files) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.looked) >= lookInterval || now.Before(f.looked) {
		f.looked = now
		text := ""
		if err := f.load(); err != nil {
			text = err.Error()
			if text != f.said {
				f.logger.Error("the certificate's files changed and cannot be used: the pair before stays in use", "error", err)
			}
		}
		f.said = text
	}
	return f.pair, nil
}

// load reads the pair, if its files are others than those that were read.
func (f *Files) load() error {
	var found [2]os.FileInfo
	for i, path := range []string{f.certificate, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("load the certificate: %w", err)
		}
		found[i] = info
	}
	if f.pair != nil && sameFile(f.read[0], found[0]) && sameFile(f.read[1], found[1]) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		return fmt.Errorf("load the certificate of %s and %s: %w", f.certificate, f.key, err)
	}
	if f.pair != nil {
		f.logger.Info("read the certificate again", "file", f.certificate, "until", pair.Leaf.NotAfter)
	}
	f.pair, f.read = &pair, found
	return nil
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
