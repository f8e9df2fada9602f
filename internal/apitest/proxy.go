package apitest

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// Direction is a way that bytes go.
type Direction int

// The two ways.
const (
	ToServer Direction = iota
	ToClient
)

// Proxy stands between clients and the API server, and fails as networks do. At first everything passes.
type Proxy struct {
	t        testing.TB
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	refuses bool
	held    [2]bool
	delay   time.Duration
	changed chan struct{} // closed when any of these did
	links   map[*link]struct{}
}

// link is a connection of a client, and the one to the API server that belongs to it.
type link struct {
	client, server net.Conn
	orphan         bool          // guarded by the proxy's mu
	done           chan struct{} // closed with the connections
	once           sync.Once
}

// Proxy starts a proxy that ends with the test.
func (s *Server) Proxy(t testing.TB) *Proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, target: strings.TrimPrefix(s.admin.Host, "https://"), listener: l, changed: make(chan struct{}), links: map[*link]struct{}{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Through is a client's configuration with the proxy in its way.
func (p *Proxy) Through(c *rest.Config) *rest.Config {
	out := rest.CopyConfig(c)
	out.Host = "https://" + p.listener.Addr().String()
	return out
}

// Refuse resets all connections, and those that come.
func (p *Proxy) Refuse() {
	p.set(func() { p.refuses = true })
	p.Cut()
}

// Cut resets the connections that are open.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// Hold lets bytes of these directions wait, and tells nobody: the connections stay open, as in a partition that packets are sent into again and again.
func (p *Proxy) Hold(directions ...Direction) {
	p.set(func() {
		for _, d := range directions {
			p.held[d] = true
		}
	})
}

// Orphan swallows what comes by the connections that are open, for good and in both directions: each end believes in the other, which is not there any more. New
// connections pass.
func (p *Proxy) Orphan() {
	p.set(func() {
		for l := range p.links {
			l.orphan = true
		}
	})
}

// Slow delays everything by d, each way.
func (p *Proxy) Slow(d time.Duration) { p.set(func() { p.delay = d }) }

// Heal lets everything pass again, and what was held first.
func (p *Proxy) Heal() {
	p.set(func() { p.refuses, p.held, p.delay = false, [2]bool{}, 0 })
}

// Links is how many connections are open.
func (p *Proxy) Links() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	l := &link{client: client, done: make(chan struct{})}
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		server = nil // as a host without a listener answers
	}
	l.server = server
	p.mu.Lock()
	if p.refuses || server == nil {
		p.mu.Unlock()
		l.reset()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, ToServer, client, server) })
	pumps.Go(func() { p.pump(l, ToClient, server, client) })
	pumps.Wait()
	l.reset()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pump passes one direction's bytes on, until either end is gone.
func (p *Proxy) pump(l *link, d Direction, from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !p.wait(l, d) {
			return
		}
		switch {
		case n > 0:
			if _, err := to.Write(buffer[:n]); err != nil {
				l.reset()
				return
			}
		case errors.Is(err, io.EOF):
			if half, ok := to.(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
			return
		}
		if err != nil {
			l.reset()
			return
		}
	}
}

// wait returns when bytes may pass, and false when they never will.
func (p *Proxy) wait(l *link, d Direction) bool {
	delayed := false
	for {
		p.mu.Lock()
		delay, held, orphan, changed := p.delay, p.held[d], l.orphan, p.changed
		p.mu.Unlock()
		switch {
		case orphan:
			<-l.done
			return false
		case held:
			select {
			case <-changed:
			case <-l.done:
				return false
			}
		case delay > 0 && !delayed:
			delayed = true
			select {
			case <-time.After(delay):
			case <-l.done:
				return false
			}
		default:
			return true
		}
	}
}

// reset ends both connections without a farewell.
func (l *link) reset() {
	l.once.Do(func() {
		for _, c := range []net.Conn{l.client, l.server} {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
				_ = tcp.Close()
			}
		}
		close(l.done)
	})
}
