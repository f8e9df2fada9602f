package rbac_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// answer is what a client got: status 0 where the connection or the stream was closed instead.
type answer struct {
	status int
	grpc   string
}

func (a answer) denied() bool {
	return a.status == http.StatusForbidden || a.status == http.StatusOK && a.grpc == "7"
}

func (a answer) rejected() bool { return a.status == 0 || a.status >= 400 && a.status < 500 }

// judge replays a case and says what is wrong, or "". What reached the application decides; the answer comes second.
func (c bypass) judge(t *testing.T, f *fixture) string {
	t.Helper()
	start := time.Now()
	answers, err := c.send(t, f)
	if err != nil {
		return err.Error()
	}
	took := time.Since(start)
	hits := f.app.seen()
	if c.Probe != nil {
		hits = slices.DeleteFunc(hits, func(h hit) bool { return h.path() != c.Probe.Path })
	}
	first := answer{}
	if len(answers) > 0 {
		first = answers[0]
	}
	describe := fmt.Sprintf("answers %+v, application saw %+v", answers, hits)
	if c.MaxMS > 0 && took > time.Duration(c.MaxMS)*time.Millisecond {
		return fmt.Sprintf("took %v", took)
	}
	if c.ExpectedSeq != nil {
		return c.judgeSequence(answers, describe)
	}
	switch c.Expected {
	case "allow":
		return c.judgeAllowed(hits, describe)
	case "deny":
		if len(hits) > 0 || !first.denied() && c.Probe == nil {
			return "not denied: " + describe
		}
	case "reject4xx":
		if len(hits) > 0 || !first.rejected() {
			return "not rejected: " + describe
		}
	case "not_allowed_any":
		if len(hits) > 0 {
			return "let through: " + describe
		}
	default:
		return "unknown expectation " + c.Expected
	}
	return ""
}

func (c bypass) judgeAllowed(hits []hit, describe string) string {
	if len(hits) != 1 {
		return "not let through once: " + describe
	}
	if want := c.AppMustSee; want != nil {
		if want.Path != "" && hits[0].path() != want.Path || want.Host != "" && hits[0].Host != want.Host {
			return "the application saw something else: " + describe
		}
	}
	if c.AppMustNotSee != nil {
		for _, name := range c.AppMustNotSee.Headers {
			if hits[0].Headers[name] != nil {
				return "the application saw " + name + ": " + describe
			}
		}
	}
	return ""
}

func (c bypass) judgeSequence(answers []answer, describe string) string {
	if len(answers) != len(c.ExpectedSeq) {
		return "wrong number of answers: " + describe
	}
	for i, want := range c.ExpectedSeq {
		got := answers[i]
		if want == "allow" && got.status != http.StatusOK || want == "deny" && !got.denied() {
			return fmt.Sprintf("answer %d is not %s: %s", i, want, describe)
		}
	}
	return ""
}

// patience bounds the wait for an answer that may never come, as to half a request.
const patience = 2 * time.Second

func (c bypass) send(t *testing.T, f *fixture) ([]answer, error) {
	t.Helper()
	source := c.SourceAddr
	if source == "" {
		source = "127.0.0.1"
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", f.listen.String())
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var raw string
	if json.Unmarshal(c.RawRequest, &raw) == nil {
		return sendHTTP1(conn, latin1(raw))
	}
	var headers [][2]string
	if err := json.Unmarshal(c.RawRequest, &headers); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return sendHTTP2(conn, headers, latin1(c.Body))
}

// latin1 turns each character into the byte of its number.
func latin1(s string) []byte {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		out = append(out, byte(r))
	}
	return out
}

// sendHTTP1 writes bytes and reads every answer until the connection ends or nothing more comes.
func sendHTTP1(conn net.Conn, raw []byte) ([]answer, error) {
	go func() { _, _ = conn.Write(raw) }()
	r := bufio.NewReader(conn)
	var out []answer
	for {
		req := &http.Request{Method: http.MethodGet}
		if bytes.HasPrefix(raw, []byte("HEAD ")) {
			req.Method = http.MethodHead
		}
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			return out, nil //nolint:nilerr // the end of the answers, however it comes
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		out = append(out, answer{resp.StatusCode, resp.Header.Get("grpc-status")})
		if resp.Close {
			return out, nil
		}
		// More answers to one write come at once, if they come.
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	}
}

// sendHTTP2 sends one request with headers exactly as given.
func sendHTTP2(conn net.Conn, headers [][2]string, body []byte) ([]answer, error) {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, fmt.Errorf("preface: %w", err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.AllowIllegalWrites = true
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, h := range headers {
		_ = encoder.WriteField(hpack.HeaderField{Name: string(latin1(h[0])), Value: string(latin1(h[1]))})
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: len(body) == 0,
	}); err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	if len(body) > 0 {
		_ = framer.WriteData(1, true, body)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return []answer{{}}, nil //nolint:nilerr // closed
		}
		switch fr := frame.(type) {
		case *http2.MetaHeadersFrame:
			got := answer{}
			for _, h := range fr.Fields {
				switch h.Name {
				case ":status":
					got.status, _ = strconv.Atoi(h.Value)
				case "grpc-status":
					got.grpc = h.Value
				}
			}
			return []answer{got}, nil
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return []answer{{}}, nil
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		}
	}
}
