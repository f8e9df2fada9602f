// Package report sums up what proxies run, over all replicas of the control plane. Input: this replica's cache, and the addresses of the others. Output: for each proxy
// how policies stand there, as the replica says that it is connected to. A replica that cannot be read says nothing of its proxies: they are lost from then on. One entry point: Collector.Run.
package report

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/pilot-lite/pilot-lite/pkg/status"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// Config is what a Collector needs.
type Config struct {
	Own *xds.Cache
	// Replicas are the addresses of the other replicas now, "HOST:PORT".
	Replicas func() []string
	TLS      *tls.Config // proves who calls, and checks who answers
	Logger   *slog.Logger
}

const (
	lookInterval = time.Second // at which replicas come and go
	firstPause   = 200 * time.Millisecond
	longestPause = 2 * time.Second
	// patience is how long a replica that was never read keeps the sum incomplete.
	patience = 5 * time.Second
	// A replica that has stopped without a word is noticed after the two together. The server lets nobody ping more often.
	pingInterval = 10 * time.Second
	pingTimeout  = 5 * time.Second
	batch        = 200
	// pace is that a response and its answer are one change of a proxy, in most cases.
	pace = 20 * time.Millisecond
)

// own names this replica among the sources.
const own = ""

// Collector keeps the sum. Safe for concurrent use.
type Collector struct {
	Config
	changed chan struct{}

	mu      sync.Mutex
	sources map[string]*source // by address
	proxies map[string]*proxy  // by node
	dirty   map[string]struct{}
}

// source is one replica.
type source struct {
	since    time.Time // listed
	complete bool      // everything was read, and is followed
	stop     context.CancelFunc
}

// proxy is what is known of one. What is said is not changed after that: who takes it holds it, too.
type proxy struct {
	connected map[string]*status.Proxy // by the replica that says so
	rest      *status.Proxy            // what was said last of one that is connected to none
}

// New returns a collector; Run starts it.
func New(c Config) *Collector {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Collector{
		Config: c, changed: make(chan struct{}, 1), sources: map[string]*source{own: {since: time.Now()}}, proxies: map[string]*proxy{}, dirty: map[string]struct{}{},
	}
}

// Run follows every replica until ctx is done.
func (c *Collector) Run(ctx context.Context) {
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { c.followOwn(ctx) })
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		for address, s := range c.look() {
			ctx, stop := context.WithCancel(ctx)
			s.stop = stop
			following.Go(func() { c.follow(ctx, address) })
		}
		select {
		case <-ctx.Done():
			c.leave()
			return
		case <-tick.C:
		}
	}
}

// look compares the replicas with those that are followed, and returns those that are not yet.
func (c *Collector) look() map[string]*source {
	listed := c.Replicas()
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := map[string]*source{}
	for _, address := range listed {
		if c.sources[address] == nil {
			c.sources[address] = &source{since: time.Now()}
			fresh[address] = c.sources[address]
		}
	}
	for address, s := range c.sources {
		if address != own && !slices.Contains(listed, address) {
			s.stop()
			delete(c.sources, address)
			c.lose(address)
		}
	}
	return fresh
}

func (c *Collector) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for address, s := range c.sources {
		if address != own {
			s.stop()
		}
	}
}

// followOwn takes over what this replica's cache says.
func (c *Collector) followOwn(ctx context.Context) {
	f := c.Own.Follow()
	defer f.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.Changed():
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pace):
		}
		for more := true; more; {
			var changed []*status.Proxy
			changed, more = f.TakeStanding(batch)
			c.take(own, changed, !more)
		}
	}
}

// follow takes over what another replica says, for as long as it is listed.
func (c *Collector) follow(ctx context.Context, address string) {
	pause := firstPause
	for {
		began := time.Now()
		err := c.read(ctx, address)
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		if s := c.sources[address]; s != nil {
			s.complete, s.since = false, time.Now()
		}
		c.lose(address)
		c.mu.Unlock()
		c.Logger.Warn("another replica's report ended: its proxies count as lost until it is read again", "replica", address, "error", err)
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

func (c *Collector) read(ctx context.Context, address string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithNoProxy(), grpc.WithTransportCredentials(credentials.NewTLS(c.TLS)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout}))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	return xds.FollowReports(ctx, conn, func(changed []xds.ProxyStatus, complete bool) {
		standing := make([]*status.Proxy, 0, len(changed))
		for i := range changed {
			standing = append(standing, changed[i].Standing())
		}
		c.take(address, standing, complete)
	})
}

// snapshot reads a replica once.
func snapshot(ctx context.Context, address string, config *tls.Config) ([]xds.ProxyStatus, error) {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithNoProxy(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	defer func() { _ = conn.Close() }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var out []xds.ProxyStatus
	done := false
	err = xds.FollowReports(ctx, conn, func(changed []xds.ProxyStatus, complete bool) {
		if !done {
			out = append(out, changed...)
		}
		if complete {
			done = true
			stop()
		}
	})
	if done {
		return out, nil
	}
	return nil, fmt.Errorf("read %s: %w", address, err)
}

// take takes over what a source says of some proxies.
func (c *Collector) take(from string, changed []*status.Proxy, complete bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sources[from]
	if s == nil {
		return // it was taken off the list meanwhile
	}
	for _, said := range changed {
		c.takeOne(from, said)
	}
	s.complete = s.complete || complete
	c.tell()
}

func (c *Collector) takeOne(from string, said *status.Proxy) {
	p := c.proxies[said.Node]
	if p == nil {
		p = &proxy{rest: &status.Proxy{Gone: true}}
		c.proxies[said.Node] = p
	}
	c.dirty[said.Node] = struct{}{}
	if said.Connected {
		if p.connected == nil {
			p.connected = map[string]*status.Proxy{}
		}
		p.connected[from] = said
		return
	}
	_, was := p.connected[from]
	delete(p.connected, from)
	if was {
		said = said.LostAt(time.Now()) // the replica's clock may be another
	}
	switch {
	case from == own && said.Gone:
		p.rest = said
	case from == own && p.rest.UID != said.UID:
		p.rest = said // another pod has the name: what the one before ran says nothing of it
	case was, !said.Since.Before(p.rest.Since):
		p.rest = said
	}
}

// lose says of a source's proxies that they are not connected: it cannot be asked.
func (c *Collector) lose(address string) {
	now := time.Now()
	for node, p := range c.proxies {
		said, was := p.connected[address]
		if !was {
			continue
		}
		delete(p.connected, address)
		p.rest = said.LostAt(now)
		c.dirty[node] = struct{}{}
	}
	c.tell()
}

func (c *Collector) tell() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Changed receives a value when there is something to take.
func (c *Collector) Changed() <-chan struct{} { return c.changed }

// Complete says whether every replica has been read, or has had its time to be.
func (c *Collector) Complete(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sources {
		if !s.complete && now.Sub(s.since) < patience {
			return false
		}
	}
	return true
}

// Take is what is known of each proxy that changed since it was taken last.
func (c *Collector) Take() []*status.Proxy {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*status.Proxy, 0, len(c.dirty))
	for node := range c.dirty {
		said := c.proxies[node].said()
		if said.Gone {
			delete(c.proxies, node)
		}
		out = append(out, said)
	}
	clear(c.dirty)
	return out
}

// said is what the newest connection's replica says, else what was said last.
func (p *proxy) said() *status.Proxy {
	newest, at := p.rest, ""
	for address, said := range p.connected {
		if !newest.Connected || said.Since.After(newest.Since) || said.Since.Equal(newest.Since) && address < at {
			newest, at = said, address
		}
	}
	return newest
}

// Sum reads every replica once. One that cannot be read is listed as a problem of its own.
func Sum(ctx context.Context, c Config) []xds.ProxyStatus {
	var reading sync.WaitGroup
	var mu sync.Mutex
	out := map[string]xds.ProxyStatus{}
	for _, p := range c.Own.Status() {
		out[p.Node] = p
	}
	for _, address := range c.Replicas() {
		reading.Go(func() {
			said, err := snapshot(ctx, address, c.TLS)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				node := "replica " + address
				out[node] = xds.ProxyStatus{Node: node, Problem: err.Error()}
			}
			for _, p := range said {
				if known := out[p.Node]; p.Connected && (!known.Connected || p.Since.After(known.Since)) || !known.Connected && known.Problem == "" && p.Problem != "" {
					out[p.Node] = p
				}
			}
		})
	}
	reading.Wait()
	return slices.SortedFunc(maps.Values(out), func(a, b xds.ProxyStatus) int { return strings.Compare(a.Node, b.Node) })
}
