package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	askTimeout  = 5 * time.Second
	maxAsking   = 64      // requests at once
	maxQuestion = 1 << 20 // bytes of a line
	maxShown    = 1 << 16 // bytes of a body
)

// question is a line of input: a request to send.
type question struct {
	ID     string              `json:"id"`
	Method string              `json:"method"` // default GET
	URL    string              `json:"url"`
	Host   string              `json:"host,omitempty"`
	Header map[string][]string `json:"header,omitempty"`
	Body   string              `json:"body,omitempty"`
}

// answer is a line of output: what became of it. Without a status, Failure says how far it came.
type answer struct {
	ID       string  `json:"id"`
	Status   int     `json:"status,omitempty"`
	ServedBy string  `json:"servedBy,omitempty"` // the application, where it was one that answered
	Body     string  `json:"body,omitempty"`     // its beginning
	Failure  failure `json:"failure,omitempty"`
	Error    string  `json:"error,omitempty"`
	Millis   int64   `json:"millis"`
}

// closedBeforeRequest is how net/http tells, in an error that it does not export, that the server hung up before the request was written.
const closedBeforeRequest = "server closed idle connection"

type failure string

const (
	unreachable failure = "unreachable" // no connection: nothing answered in time
	refused     failure = "refused"     // no connection: the port is shut
	cut         failure = "cut"         // the connection ended without an answer
	silent      failure = "silent"      // connected, and no answer in time
	unspecified failure = "failed"
)

// ask sends the requests that it reads, one JSON object a line, each over a connection of its own, and writes what became of each as soon as it is known.
func ask(ctx context.Context, args []string, input io.Reader, output, messages io.Writer) error {
	f := flag.NewFlagSet("bookinfo ask", flag.ContinueOnError)
	f.SetOutput(messages)
	timeout := f.Duration("timeout", askTimeout, "how long a request may take")
	if err := f.Parse(args); err != nil {
		return err
	}
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		lines = bufio.NewScanner(input)
		write = json.NewEncoder(output)
		slots = make(chan struct{}, maxAsking)
	)
	lines.Buffer(nil, maxQuestion)
	defer group.Wait()
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return fmt.Errorf("read a question: %w", err)
		}
		slots <- struct{}{}
		group.Go(func() {
			a := q.send(ctx, *timeout)
			<-slots
			mu.Lock()
			defer mu.Unlock()
			_ = write.Encode(a) // nobody reads any more: nothing is lost
		})
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read a question: %w", err)
	}
	return nil
}

func (q *question) send(ctx context.Context, timeout time.Duration) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	defer func() { a.Millis = time.Since(began).Milliseconds() }()
	a.ID = q.ID
	connected := false
	dialer := &net.Dialer{}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dialer.DialContext(ctx, network, address)
				connected = err == nil
				return c, err
			},
			// The ingress makes its own certificate at start, which nobody can know.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, q.Method, q.URL, strings.NewReader(q.Body))
	if err != nil {
		a.Failure, a.Error = unspecified, err.Error()
		return a
	}
	req.Host = q.Host
	for name, values := range q.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	resp, err := client.Do(req)
	if err != nil {
		a.Failure, a.Error = failureOf(err, connected), err.Error()
		return a
	}
	defer func() { _ = resp.Body.Close() }()
	a.Status, a.ServedBy = resp.StatusCode, resp.Header.Get(servedBy)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		a.Failure, a.Error = failureOf(err, connected), err.Error()
	}
	a.Body = string(body[:min(len(body), maxShown)])
	return a
}

func failureOf(err error, connected bool) failure {
	var failed net.Error
	late := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &failed) && failed.Timeout()
	switch {
	case !connected && errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case !connected && (late || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)):
		return unreachable
	case late:
		return silent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return cut
	case connected && strings.HasSuffix(err.Error(), closedBeforeRequest):
		return cut
	}
	return unspecified
}
