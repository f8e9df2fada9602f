package kube_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

// pods changes what is asked and answered about pods.
type pods struct {
	broken  atomic.Bool  // lists and streams break in their midst, and watches have expired
	breaks  atomic.Int64 // how often one did
	page    atomic.Int64 // of the present list
	streams bool         // lists are streamed
}

const pageSize = 2

func (p *pods) wrap(next http.RoundTripper) http.RoundTripper { return &podTripper{next, p} }

type podTripper struct {
	http.RoundTripper
	p *pods
}

func (x *podTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/pods") {
		return x.RoundTripper.RoundTrip(r)
	}
	q := r.URL.Query()
	switch streamed, watched := q.Get("sendInitialEvents") != "", q.Get("watch") != ""; {
	case streamed && !x.p.streams:
		return answer(r, http.StatusUnprocessableEntity, "Invalid"), nil // as an API server answers that cannot
	case streamed && x.p.broken.Load():
		resp, err := x.RoundTripper.RoundTrip(r)
		if err == nil {
			resp.Body = &torn{ReadCloser: resp.Body, p: x.p, left: tornAfter}
		}
		return resp, err
	case watched && !streamed && x.p.broken.Load():
		return answer(r, http.StatusGone, "Expired"), nil
	case watched:
		return x.RoundTripper.RoundTrip(r)
	case x.p.streams && x.p.broken.Load():
		return answer(r, http.StatusInternalServerError, "InternalError"), nil
	}
	if q.Get("limit") == "1" {
		return x.RoundTripper.RoundTrip(r) // no list
	}
	page := int64(1)
	if q.Get("continue") != "" {
		page = x.p.page.Add(1)
	}
	x.p.page.Store(page)
	if page == 3 && x.p.broken.Load() {
		x.p.breaks.Add(1)
		return answer(r, http.StatusInternalServerError, "InternalError"), nil
	}
	q.Set("limit", strconv.Itoa(pageSize))
	asked := r.Clone(r.Context())
	asked.URL.RawQuery = q.Encode()
	return x.RoundTripper.RoundTrip(asked)
}

// torn is an answer that ends in its midst.
type torn struct {
	io.ReadCloser
	p    *pods
	left int
}

const tornAfter = 2 << 10

func (b *torn) Read(into []byte) (int, error) {
	if b.left == 0 {
		b.p.breaks.Add(1)
		return 0, errors.New("injected: connection reset by peer")
	}
	n, err := b.ReadCloser.Read(into[:min(len(into), b.left)])
	b.left -= n
	return n, err
}

func answer(r *http.Request, code int, reason string) *http.Response {
	body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":%q,"message":"injected"}`, code, reason)
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}
}

// lists: a list that breaks in its midst, page by page or streamed, is no list: it replaces nothing, and is begun anew.
func (c *cluster) lists(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"paged", "streamed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			if how == "streamed" && !c.streams(t) {
				t.Skip("this etcd is too old for lists that are streamed: set ETCD to one of 3.5.13 or later")
			}
			p := &pods{streams: how == "streamed"}
			p.broken.Store(true)
			who := c.User(account)
			who.Wrap(p.wrap)
			v, s := c.viewBy(t, who, staleAfter), c.story(t, how)
			breaks := func(when string) {
				t.Helper()
				const enough = 2
				before := p.breaks.Load()
				apitest.Eventually(t, patience, "lists break "+when, func() error {
					if n := p.breaks.Load() - before; n < enough {
						return fmt.Errorf("%d did", n)
					}
					return nil
				})
			}
			breaks("at first")
			if _, complete := v.Snapshot(); complete {
				t.Error("a snapshot without a whole list")
			}
			if w := v.Waiting(); len(w) != 1 || w[0] != "pods" {
				t.Errorf("waiting for %v", w)
			}
			p.broken.Store(false)
			v.tells(t, "once lists are whole", s)
			before := *s
			p.broken.Store(true)
			v.proxy.Cut()
			breaks("again")
			c.removePod(t, s.pod())
			breaks("when a pod is gone")
			if err := v.told(&before); err != nil {
				t.Errorf("what was read last does not stay: %v", err)
			}
			c.pod(t, s.pod())
			s.next(t)
			p.broken.Store(false)
			v.tells(t, "in the end", s)
		})
	}
}

// streams says whether the API server streams lists, which it needs etcd's help for.
func (c *cluster) streams(t *testing.T) bool {
	t.Helper()
	yes := true
	w, err := c.CoreV1().Pods(c.namespace).Watch(t.Context(), metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true,
	})
	must(t, w, err)
	defer w.Stop()
	return (<-w.ResultChan()).Type != watch.Error
}
