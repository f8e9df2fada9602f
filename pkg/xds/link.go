package xds

import (
	"sync"

	"google.golang.org/grpc"
)

// link is how a proxy is spoken to. Who sends never waits: what is to be sent is laid down, and a goroutine that lives for as long as there is something to send
// waits for the proxy to read.
type link struct {
	stream grpc.ServerStream
	ended  chan error // why the stream is to end; the first reason counts

	mu     sync.Mutex
	queue  []*outgoing // at most one of each served type, since a response is answered before the next
	moving bool
}

func newLink(stream grpc.ServerStream) *link {
	return &link{stream: stream, ended: make(chan error, 1)}
}

// end ends the stream.
func (l *link) end(why error) {
	select {
	case l.ended <- why:
	default:
	}
}

// send lays a response down.
func (l *link) send(m *outgoing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, m)
	if !l.moving {
		l.moving = true
		go l.move()
	}
}

func (l *link) move() {
	for m := l.next(); m != nil; m = l.next() {
		if err := l.stream.SendMsg(m); err != nil {
			l.end(err)
			return
		}
	}
}

func (l *link) next() *outgoing {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.queue, l.moving = nil, false
		return nil
	}
	m := l.queue[0]
	l.queue = l.queue[1:]
	return m
}
