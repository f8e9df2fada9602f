package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	dialTimeout    = 2 * time.Second
	answerTimeout  = 5 * time.Second
	idlePerHost    = 16
	maxAnswerBytes = 1 << 20
	// endUser carries the signed-in user from productpage down the chain.
	endUser = "End-User"
)

// client calls one other service, at several addresses in turn.
type client struct {
	service string
	bases   []*url.URL
	next    atomic.Uint64
	http    *http.Client
}

func newClient(service, bases, source string) (*client, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if source != "" {
		a, err := netip.ParseAddr(source)
		if err != nil {
			return nil, fmt.Errorf("--source-address: %w", err)
		}
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	}
	c := &client{service: service, http: &http.Client{
		Timeout: answerTimeout,
		// No proxy from the environment: services talk to each other directly. A redirect of a service is the caller's business.
		Transport:     &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: idlePerHost, IdleConnTimeout: idleTimeout},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for base := range strings.SplitSeq(bases, ",") {
		u, err := url.Parse(strings.TrimSpace(base))
		if err != nil || u.Scheme != "http" || u.Host == "" {
			return nil, fmt.Errorf("--%s: %q: want base URLs such as http://%s:9080", service, base, service)
		}
		c.bases = append(c.bases, u)
	}
	return c, nil
}

// base is whose turn it is.
func (c *client) base() *url.URL { return c.bases[(c.next.Add(1)-1)%uint64(len(c.bases))] }

// refusal is an answer that is no success, or none at all.
type refusal struct {
	Service string
	Status  int    // 0: no answer
	By      string // who decided
	Detail  string
}

func (r *refusal) Error() string {
	if r.Status == 0 {
		return fmt.Sprintf("%s unavailable (no answer: %s)", r.Service, r.Detail)
	}
	said := ""
	if r.Detail != "" {
		said = ": " + r.Detail
	}
	return fmt.Sprintf("%s unavailable (%d, decided by %s%s)", r.Service, r.Status, r.By, said)
}

// do sends a request on behalf of a user and decodes the answer into out.
func (c *client) do(ctx context.Context, method, path, user string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("call %s: %w", c.service, err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base().JoinPath(path).String(), body)
	if err != nil {
		return fmt.Errorf("call %s: %w", c.service, err)
	}
	if user != "" {
		req.Header.Set(endUser, user)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return &refusal{Service: c.service, Detail: reason(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return &refusal{Service: c.service, Detail: reason(err)}
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return &refusal{Service: c.service, Status: resp.StatusCode, By: decider(c.service, resp), Detail: detail(text)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return &refusal{Service: c.service, Detail: "its answer is not understood"}
	}
	return nil
}

// decider tells an application's refusal from that of the sidecar before it. The rule's name stands in the sidecar's access log only: a caller that
// is refused is not told why.
func decider(service string, resp *http.Response) string {
	if name := resp.Header.Get(servedBy); name != "" {
		return "the application " + name
	}
	return "the sidecar of " + service
}

// detail is the error that an application gave.
func detail(body []byte) string {
	var p problem
	if json.Unmarshal(body, &p) == nil {
		return p.Error
	}
	return ""
}

// reason is an error without the address that it went to: pages show it.
func reason(err error) string {
	var failed net.Error
	if errors.As(err, &failed) && failed.Timeout() {
		return "timed out"
	}
	return "connection failed"
}
