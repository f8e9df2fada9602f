//go:build e2e

package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// question and answer are what `bookinfo ask` reads and writes.
type question struct {
	ID     string      `json:"id"`
	Method string      `json:"method,omitempty"`
	URL    string      `json:"url"`
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body,omitempty"`
}

type answer struct {
	ID       string `json:"id"`
	Status   int    `json:"status"`
	ServedBy string `json:"servedBy"`
	Body     string `json:"body"`
	Failure  string `json:"failure"`
	Error    string `json:"error"`
	Millis   int64  `json:"millis"`
}

// outcome is how far a request came.
type outcome string

const (
	served     outcome = "served"                // by the application
	denied     outcome = "denied by the sidecar" // 403, or a connection that was cut before the application said anything
	stopped    outcome = "stopped by the kernel" // no connection came about
	unanswered outcome = "neither served, denied nor stopped"
)

func (a *answer) outcome() outcome {
	switch {
	case a.ServedBy != "":
		return served
	case a.Status == http.StatusForbidden, a.Failure == "cut":
		return denied
	case a.Failure == "unreachable":
		return stopped
	}
	return unanswered
}

func (a *answer) String() string {
	if a.Failure != "" {
		return fmt.Sprintf("%s (%s: %s)", a.outcome(), a.Failure, a.Error)
	}
	return fmt.Sprintf("%s (%d)", a.outcome(), a.Status)
}

// asker is where requests come from: a container with bookinfo's program.
type asker struct{ namespace, pod, container string }

const askTimeout = "3s"

func (s *suite) askCommand(ctx context.Context, from asker) *exec.Cmd {
	return exec.CommandContext(ctx, "kubectl", "exec", "-i", "-n", from.namespace, from.pod, "-c", from.container, "--", "/bookinfo", "ask", "--timeout", askTimeout)
}

// ask sends requests from a container, all at once, and returns the answers by their ids.
func (s *suite) ask(ctx context.Context, from asker, questions ...question) (map[string]*answer, error) {
	return askBy(s.askCommand(ctx, from), questions...)
}

func askBy(cmd *exec.Cmd, questions ...question) (map[string]*answer, error) {
	var input strings.Builder
	encoder := json.NewEncoder(&input)
	for _, q := range questions {
		if err := encoder.Encode(q); err != nil {
			return nil, fmt.Errorf("write a question: %w", err)
		}
	}
	var messages strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(input.String()), &messages
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cmd, err, messages.String())
	}
	answers := map[string]*answer{}
	for line := range strings.Lines(string(out)) {
		var a answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			return nil, fmt.Errorf("read an answer %q: %w", line, err)
		}
		answers[a.ID] = &a
	}
	if len(answers) != len(questions) {
		return nil, fmt.Errorf("%s: %d answers to %d questions: %s", cmd, len(answers), len(questions), messages.String())
	}
	return answers, nil
}

// one sends one request.
func (s *suite) one(ctx context.Context, from asker, q question) (*answer, error) {
	q.ID = "one"
	answers, err := s.ask(ctx, from, q)
	if err != nil {
		return nil, err
	}
	return answers["one"], nil
}

// mustGet is one request that must have an outcome, at once.
func (s *suite) must(t *testing.T, ctx context.Context, from asker, q question, want outcome) {
	t.Helper()
	got, err := s.one(ctx, from, q)
	switch {
	case err != nil:
		t.Error(err)
	case got.outcome() != want:
		t.Errorf("%s %s from %s/%s: %s, want %s", q.Method, q.URL, from.namespace, from.pod, got, want)
	}
}

// comes waits until a request has an outcome.
func (s *suite) comes(t *testing.T, ctx context.Context, from asker, q question, want outcome) {
	t.Helper()
	eventually(t, ctx, fmt.Sprintf("%s %s from %s/%s is %s", q.Method, q.URL, from.namespace, from.pod, want), func() error {
		got, err := s.one(ctx, from, q)
		if err == nil && got.outcome() != want {
			err = fmt.Errorf("it is %s", got)
		}
		return err
	})
}

// stream keeps a client running, for requests that are sent one after the other.
type stream struct {
	input   io.WriteCloser
	answers chan *answer
	done    chan error
}

func startStream(cmd *exec.Cmd) (*stream, error) {
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a client: %w", err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a client: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a client: %w", err)
	}
	st := &stream{input: input, answers: make(chan *answer, 1024), done: make(chan error, 1)}
	go func() {
		lines := bufio.NewScanner(output)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var a answer
			if json.Unmarshal(lines.Bytes(), &a) == nil {
				st.answers <- &a
			}
		}
		close(st.answers)
		st.done <- cmd.Wait()
	}()
	return st, nil
}

func (st *stream) send(q question) error { return json.NewEncoder(st.input).Encode(q) }
