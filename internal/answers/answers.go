// Package answers remembers what the API server said of those who ask us, for who asks it on strangers' behalf: how much strangers can make it hold and log is bounded.
// Input: questions as keys, and answers with the time until which they stand. Output: the answers. Entry points: New, and Complaints.
package answers

import (
	"log/slog"
	"maps"
	"sync"
	"time"
)

// Answers are a bounded number of answers. Safe for concurrent use.
type Answers[K comparable, A any] struct {
	max int

	mu    sync.Mutex
	known map[K]answer[A]
}

type answer[A any] struct {
	what  A
	until time.Time
}

// New returns a memory of at most so many answers.
func New[K comparable, A any](most int) *Answers[K, A] {
	return &Answers[K, A]{max: most, known: map[K]answer[A]{}}
}

// Look is the last answer, the zero value where there is none, and whether it still stands.
func (x *Answers[K, A]) Look(key K, now time.Time) (last A, stands bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	known := x.known[key]
	return known.what, now.Before(known.until)
}

// Keep remembers an answer. Where there are too many, those that stand no more go, and all where that does not help: they can be asked for again.
func (x *Answers[K, A]) Keep(key K, what A, now, until time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.known) >= x.max {
		maps.DeleteFunc(x.known, func(_ K, a answer[A]) bool { return !now.Before(a.until) })
	}
	if len(x.known) >= x.max {
		clear(x.known)
	}
	x.known[key] = answer[A]{what, until}
}

// pause lies between two complaints.
const pause = 10 * time.Second

// Complaints say that the API server cannot be asked, now and then: strangers can make it be asked as often as they like. The zero value is ready. Safe for concurrent use.
type Complaints struct {
	mu   sync.Mutex
	last time.Time
}

// Make logs an error, unless one was logged lately.
func (c *Complaints) Make(logger *slog.Logger, now time.Time, message string, err error) {
	c.mu.Lock()
	quiet := now.Sub(c.last) < pause
	if !quiet {
		c.last = now
	}
	c.mu.Unlock()
	if !quiet {
		logger.Warn(message, "error", err)
	}
}
