package dataplane_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// connections are kept alive, and each has one request under way.
const connections = 4

// load sends one request again and again.
type load struct {
	conns   []net.Conn
	readers []*bufio.Reader
	request []byte
}

func newLoad(b *testing.B, from netip.Addr, to netip.AddrPort, request []byte) *load {
	b.Helper()
	l := &load{request: request}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: time.Minute}
	for range connections {
		c, err := dialer.DialContext(b.Context(), "tcp", to.String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		l.conns, l.readers = append(l.conns, c), append(l.readers, bufio.NewReader(c))
	}
	return l
}

// probe sends one request over each connection, and returns the status of the answers.
func (l *load) probe(b *testing.B) int {
	b.Helper()
	status := 0
	for i := range l.conns {
		got, err := l.send(i)
		if err != nil {
			b.Fatal(err)
		}
		status = got
	}
	return status
}

// run loads every connection for a while, and returns how many requests were answered.
func (l *load) run(b *testing.B, d time.Duration) int {
	b.Helper()
	var total atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	deadline := time.Now().Add(d)
	for i := range l.conns {
		group.Go(func() {
			for time.Now().Before(deadline) {
				if _, err := l.send(i); err != nil {
					failed.Store(&err)
					return
				}
				total.Add(1)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
	return int(total.Load())
}

// send reads no more of an answer than it must: the processors are shared with the Envoy under load.
func (l *load) send(i int) (status int, err error) {
	if _, err := l.conns[i].Write(l.request); err != nil {
		return 0, err
	}
	length := 0
	for {
		line, err := l.readers[i].ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch name, value, found := bytes.Cut(line, []byte(": ")); {
		case len(line) == 0:
			_, err = l.readers[i].Discard(length)
			return status, err
		case status == 0:
			status, err = strconv.Atoi(string(bytes.Fields(line)[1]))
		case found && bytes.EqualFold(name, []byte("content-length")):
			length, err = strconv.Atoi(string(value))
		}
		if err != nil {
			return 0, err
		}
	}
}

// startApp runs an application that answers every request with the same bytes.
func startApp(b *testing.B) netip.AddrPort {
	b.Helper()
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// answer reads requests without bodies.
func answer(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = r.ReadSlice('\n') // the end of a long line decides nothing
		}
		if err != nil {
			return
		}
		if len(line) > len("\r\n") {
			continue
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}
