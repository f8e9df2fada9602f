package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo/graph"
)

const (
	answerTime = 5 * time.Second
	maxAnswer  = 1 << 20
	// servedBy is set by every application of bookinfo, and by no sidecar.
	servedBy = "X-Served-By"
)

// from is an HTTP client whose connections come from a workload's own address. Each request has a connection of its own, unless it keeps them.
func from(source netip.Addr, keepAlive keepAlive) *http.Client {
	dialer := &net.Dialer{Timeout: answerTime, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
	return &http.Client{
		Timeout: answerTime,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, DisableKeepAlives: keepAlive != keepAlives,
			// The ingress makes its own certificate at start, which nobody can know.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type keepAlive string

const (
	closes     keepAlive = "close"
	keepAlives keepAlive = "keep-alive"
)

// send sends a request to a workload and says whether the application answered. The host names the request in the sidecar's access log.
func send(ctx context.Context, client *http.Client, r *graph.Request, to *workload, host string) (allowed bool, err error) {
	scheme := "http"
	if r.TLS {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, scheme+"://"+to.listen(r.Port).String()+r.Path, strings.NewReader(r.Body()))
	if err != nil {
		return false, fmt.Errorf("request: %w", err)
	}
	req.Host = host
	maps.Copy(req.Header, r.Header)
	resp, err := client.Do(req)
	switch {
	case r.TCP && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		return false, nil // a sidecar that knows bytes only refuses by closing
	case err != nil:
		return false, fmt.Errorf("%s to %s: %w", r, to.name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return false, fmt.Errorf("%s to %s: %w", r, to.name, err)
	}
	switch {
	case resp.Header.Get(servedBy) != "":
		return true, nil
	case resp.StatusCode == http.StatusForbidden:
		return false, nil
	}
	return false, fmt.Errorf("%s to %s: %s, which is neither the application's nor a refusal", r, to.name, resp.Status)
}

// get returns a page.
func get(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("get %s: %w", url, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("get %s: %w", url, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("get %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return string(text), fmt.Errorf("get %s: %s: %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	return string(text), nil
}
