package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// book is what details knows.
type book struct {
	ID        int    `json:"id"`
	Title     string `json:"title"`
	Author    string `json:"author"`
	Year      int    `json:"year"`
	Type      string `json:"type"`
	Pages     int    `json:"pages"`
	Publisher string `json:"publisher"`
	Language  string `json:"language"`
	ISBN10    string `json:"isbn10"`
	ISBN13    string `json:"isbn13"`
	Summary   string `json:"summary"`
}

// theBook is the only book in the shop.
func theBook() book {
	return book{
		Title: "The Comedy of Errors", Author: "William Shakespeare", Year: 1595, Type: "Paperback", Pages: 200, Publisher: "PublisherA",
		Language: "English", ISBN10: "1234567890", ISBN13: "123-1234567890",
		Summary: "Two sets of identical twins, parted at birth, come to the same city on the same day. One of Shakespeare's early plays, his shortest, " +
			"and one of the most farcical: much of the humour comes from mistaken identity.",
	}
}

const bookPath = "/0"

// knownBook says whether the path names the book, and answers if it does not.
func knownBook(w http.ResponseWriter, r *http.Request) bool {
	if r.PathValue("id") == "0" {
		return true
	}
	writeProblem(w, http.StatusNotFound, "no such book")
	return false
}

func detailsRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /details/{id}", func(w http.ResponseWriter, r *http.Request) {
		if knownBook(w, r) {
			writeJSON(w, http.StatusOK, theBook())
		}
	})
	return mux
}

// starColors are the colours of the stars by version; v1 has none, and does not call ratings.
func starColors() map[string]string { return map[string]string{"v2": "black", "v3": "red"} }

// reviews serves what was written about the book.
type reviews struct {
	version string
	stars   string  // colour; "": no stars
	ratings *client // nil without stars
}

// bookReviews is the answer of reviews.
type bookReviews struct {
	Version      string   `json:"version"`
	Color        string   `json:"color,omitempty"`
	Reviews      []review `json:"reviews"`
	Readers      []rating `json:"readers,omitempty"`
	RatingsError string   `json:"ratingsError,omitempty"`
}

type review struct {
	Reviewer string `json:"reviewer"`
	Text     string `json:"text"`
	Stars    int    `json:"stars,omitempty"` // 0: none
}

func (s *reviews) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /reviews/{id}", s.get)
	mux.HandleFunc("GET /reviews/{id}/stream", stream)
	return mux
}

func (s *reviews) get(w http.ResponseWriter, r *http.Request) {
	if !knownBook(w, r) {
		return
	}
	out := bookReviews{Version: s.version, Color: s.stars, Reviews: []review{
		{Reviewer: "Reviewer1", Text: "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},
		{Reviewer: "Reviewer2", Text: "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."},
	}}
	if s.ratings != nil {
		var answer bookRatings
		if err := s.ratings.do(r.Context(), http.MethodGet, "/ratings"+bookPath, r.Header.Get(endUser), nil, &answer); err != nil {
			out.RatingsError = err.Error()
		}
		for i := range out.Reviews {
			out.Reviews[i].Stars = answer.Reviewers[out.Reviews[i].Reviewer]
		}
		out.Readers = answer.Readers
	}
	writeJSON(w, http.StatusOK, out)
}

const (
	streamInterval = 100 * time.Millisecond
	streamTimeout  = 5 * time.Second
)

// stream sends an event ten times a second until the caller or the server ends it.
func stream(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	ticker := time.NewTicker(streamInterval)
	defer ticker.Stop()
	for n := 1; ; n++ {
		// The server's time limits are for whole requests. Here each event has its own.
		deadline := time.Now().Add(streamTimeout)
		if control.SetReadDeadline(time.Time{}) != nil || control.SetWriteDeadline(deadline) != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "id: %d\ndata: {\"event\":%d}\n\n", n, n); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

// ratings keeps stars in memory.
type ratings struct {
	mu      sync.Mutex
	readers []rating
}

type rating struct {
	Reader string `json:"reader,omitempty"`
	Stars  int    `json:"stars"`
}

// bookRatings is the answer of ratings.
type bookRatings struct {
	Reviewers map[string]int `json:"reviewers"`
	Readers   []rating       `json:"readers"` // the latest last
}

const (
	maxStars   = 5
	maxReaders = 20
	maxUser    = 32
)

func newRatings() *ratings { return &ratings{} }

func (s *ratings) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ratings/{id}", s.get)
	mux.HandleFunc("POST /ratings/{id}", s.post)
	return mux
}

func (s *ratings) get(w http.ResponseWriter, r *http.Request) {
	if !knownBook(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	writeJSON(w, http.StatusOK, bookRatings{Reviewers: map[string]int{"Reviewer1": 5, "Reviewer2": 4}, Readers: s.readers})
}

// post records the stars of the user whom the chain named. That there is one is the policy's business; the application checks again.
func (s *ratings) post(w http.ResponseWriter, r *http.Request) {
	if !knownBook(w, r) {
		return
	}
	user := r.Header.Get(endUser)
	if !validUser(user) {
		writeProblem(w, http.StatusUnauthorized, "sign in first")
		return
	}
	var in rating
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Stars < 1 || in.Stars > maxStars {
		writeProblem(w, http.StatusBadRequest, "stars: want a number from 1 to "+strconv.Itoa(maxStars))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make([]rating, 0, maxReaders)
	for _, known := range s.readers {
		if known.Reader != user {
			kept = append(kept, known)
		}
	}
	if len(kept) == maxReaders {
		kept = kept[1:]
	}
	s.readers = append(kept, rating{Reader: user, Stars: in.Stars})
	writeJSON(w, http.StatusOK, in)
}

// validUser accepts names that need no quoting in a header or a cookie.
func validUser(name string) bool {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._", r)
	}
	return name != "" && len(name) <= maxUser && !strings.ContainsFunc(name, func(r rune) bool { return !plain(r) })
}
