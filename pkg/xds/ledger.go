package xds

import (
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// keepDisconnected is how long a proxy that went away stays in the status.
	keepDisconnected = 10 * time.Minute
	// maxRefused bounds the memory of refused content.
	maxRefused = 4096
	// maxText bounds a refusal's text, which the proxy writes.
	maxText = 4096
)

// ledger is what each proxy runs, as far as its answers prove it. Guarded by the cache's lock.
type ledger struct {
	proxies map[string]*proxy
	// bad is content that some proxy refused; order is for forgetting the oldest.
	bad   map[content]struct{}
	order []content
}

type content struct{ typeURL, name, version string }

// proxy is one node, connected or lately.
type proxy struct {
	build   string
	streams int
	since   time.Time
	held    map[string]map[string]*holding // type, name
}

// holding is one resource at one proxy.
type holding struct {
	enforced, pending, refused string // versions
	text                       string
	policies                   []model.PolicyRef // of the enforced content
	changed                    time.Time
}

func newLedger() ledger {
	return ledger{proxies: map[string]*proxy{}, bad: map[content]struct{}{}}
}

func (l *ledger) connected(node, build string, now time.Time) {
	p := l.proxies[node]
	if p == nil || p.streams == 0 {
		// What a proxy ran before it reconnected it says itself: another process may stand behind the name now.
		p = &proxy{held: map[string]map[string]*holding{}}
		l.proxies[node] = p
	}
	p.streams++
	p.since, p.build = now, build
	for id, old := range l.proxies {
		if old.streams == 0 && now.Sub(old.since) > keepDisconnected {
			delete(l.proxies, id)
		}
	}
}

func (l *ledger) disconnected(node string, now time.Time) {
	if p := l.proxies[node]; p != nil {
		p.streams--
		p.since = now
	}
}

func (l *ledger) holding(node, typeURL, name string) *holding {
	p := l.proxies[node]
	if p == nil {
		return &holding{}
	}
	byName := p.held[typeURL]
	if byName == nil {
		byName = map[string]*holding{}
		p.held[typeURL] = byName
	}
	h := byName[name]
	if h == nil {
		h = &holding{}
		byName[name] = h
	}
	return h
}

// claimed notes what a proxy says it holds as it connects.
func (l *ledger) claimed(node, typeURL string, versions map[string]string, now time.Time) {
	for name, version := range versions {
		h := l.holding(node, typeURL, name)
		h.enforced, h.changed = version, now
	}
}

func (l *ledger) sent(node, typeURL string, f *flight, now time.Time) {
	for _, r := range f.resources {
		h := l.holding(node, typeURL, r.Name)
		h.pending, h.changed = r.Version, now
	}
}

func (l *ledger) acked(node, typeURL string, f *flight, now time.Time) {
	for _, r := range f.resources {
		h := l.holding(node, typeURL, r.Name)
		*h = holding{enforced: r.Version, policies: r.Policies, changed: now}
	}
	if p := l.proxies[node]; p != nil {
		for _, name := range f.removed {
			delete(p.held[typeURL], name)
		}
	}
}

// refused notes a NACK, and says whether it is news. With several resources in the response nobody knows which was meant: each stays pending.
func (l *ledger) refused(node, typeURL string, f *flight, text string, now time.Time) bool {
	if len(text) > maxText {
		text = text[:maxText]
	}
	news := false
	for _, r := range f.resources {
		h := l.holding(node, typeURL, r.Name)
		if len(f.resources) > 1 {
			continue
		}
		news = news || h.refused != r.Version || h.text != text
		h.pending, h.refused, h.text, h.changed = "", r.Version, text, now
		l.remember(content{typeURL, r.Name, r.Version})
	}
	return news || len(f.resources) > 1
}

func (l *ledger) remember(c content) {
	if _, known := l.bad[c]; known {
		return
	}
	l.bad[c] = struct{}{}
	l.order = append(l.order, c)
	if len(l.order) > maxRefused {
		delete(l.bad, l.order[0])
		l.order = l.order[1:]
	}
}

// everRefused says whether some proxy refused this content, as far as is remembered.
func (l *ledger) everRefused(r *Resource) bool {
	_, bad := l.bad[content{r.Type, r.Name, r.Version}]
	return bad
}
