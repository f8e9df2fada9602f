package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"time"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 15 * time.Second
	idleTimeout       = time.Minute
	stopTime          = 5 * time.Second
	maxHeaderBytes    = 64 << 10
	maxBodyBytes      = 64 << 10
	certificateLife   = 30 * 24 * time.Hour
)

// servedBy names who answered: a response without it comes from a sidecar, not from an application.
const servedBy = "X-Served-By"

// listener is a handler and its address.
type listener struct {
	address string
	handler http.Handler
	tls     bool
	// clearHTTP2 says that HTTP/2 is spoken without TLS, as gRPC does.
	clearHTTP2 bool
}

// named adds what every response of an application carries, and bounds what a request may.
func (l listener) named(name string) listener {
	inner := http.MaxBytesHandler(l.handler, maxBodyBytes)
	l.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(servedBy, name)
		if r.Header.Get("X-Debug") != "" { // tells of the inside: a policy keeps it from everybody
			w.Header().Set("X-Debug-Trace", name+" "+r.Method+" "+r.URL.Path+" from "+r.RemoteAddr)
		}
		inner.ServeHTTP(w, r)
	})
	return l
}

// withHealth answers probes beside a handler.
func withHealth(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("/", h)
	return mux
}

// serve serves until the context ends, then lets requests finish; streams end at once.
func serve(ctx context.Context, listeners []listener, logger *slog.Logger) error {
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	servers := make([]*http.Server, 0, len(listeners))
	failed := make(chan error, len(listeners))
	stop := func() error {
		endStreams()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		var err error
		for _, s := range servers {
			err = errors.Join(err, s.Shutdown(stopping))
		}
		return err
	}
	for _, l := range listeners {
		socket, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.address)
		if err != nil {
			return errors.Join(fmt.Errorf("listen on %s: %w", l.address, err), stop())
		}
		if l.tls {
			config, err := selfSigned(time.Now())
			if err != nil {
				return errors.Join(err, socket.Close(), stop())
			}
			socket = tls.NewListener(socket, config)
		}
		s := &http.Server{
			Handler: l.handler, BaseContext: func(net.Listener) context.Context { return streams }, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
			ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		}
		if l.clearHTTP2 {
			s.Protocols = &http.Protocols{}
			s.Protocols.SetUnencryptedHTTP2(true)
		}
		servers = append(servers, s)
		logger.Info("serving", "address", socket.Addr().String(), "tls", l.tls)
		go func() { failed <- s.Serve(socket) }()
	}
	select {
	case err := <-failed:
		return errors.Join(err, stop())
	case <-ctx.Done():
		return stop()
	}
}

// selfSigned makes a certificate that lasts as long as the process is likely to.
func selfSigned(now time.Time) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "bookinfo"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost", "bookinfo.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a caller that is gone needs no answer
}

// problem is the body of an error.
type problem struct {
	Error string `json:"error"`
}

func writeProblem(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, problem{text})
}
