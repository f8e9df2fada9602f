package main

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strconv"
)

//go:embed page.html
var pageFiles embed.FS

const (
	userCookie   = "user"
	cookieMaxAge = 3600
)

// productpage is the page that people see. It signs people in by name only: who they are is not what this example is about.
type productpage struct {
	details, reviews, ratings *client
}

func (p *productpage) routes() http.Handler {
	page := template.Must(template.New("page.html").Funcs(template.FuncMap{"stars": stars}).ParseFS(pageFiles, "page.html"))
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", http.RedirectHandler("/productpage", http.StatusFound))
	mux.HandleFunc("GET /productpage", func(w http.ResponseWriter, r *http.Request) { p.show(w, r, page, http.StatusOK, "") })
	mux.HandleFunc("POST /productpage/ratings", func(w http.ResponseWriter, r *http.Request) { p.rate(w, r, page) })
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		name := r.PostFormValue("user")
		if !validUser(name) {
			p.show(w, r, page, http.StatusBadRequest, "A name has at most 32 letters, digits, dots and dashes.")
			return
		}
		setUser(w, r, name, cookieMaxAge)
	})
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) { setUser(w, r, "", -1) })
	return withPageHeaders(mux)
}

// withPageHeaders lets browsers load nothing, and run nothing, that is not in the page.
func withPageHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy",
			"default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "same-origin")
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

func setUser(w http.ResponseWriter, r *http.Request, name string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: userCookie, Value: name, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.Header.Get("X-Forwarded-Proto") == "https",
	})
	http.Redirect(w, r, "/productpage", http.StatusSeeOther)
}

// user is who is signed in; "" for nobody.
func user(r *http.Request) string {
	if c, err := r.Cookie(userCookie); err == nil && validUser(c.Value) {
		return c.Value
	}
	return ""
}

// view is what the page shows.
type view struct {
	User    string
	Notice  string
	Book    *book
	Reviews *bookReviews
	// What went wrong, for people; "" where nothing did.
	DetailsError, ReviewsError string
	Scores                     []int
}

func (p *productpage) show(w http.ResponseWriter, r *http.Request, page *template.Template, status int, notice string) {
	v := view{User: user(r), Notice: notice, Book: &book{}, Reviews: &bookReviews{}, Scores: []int{1, 2, 3, 4, 5}}
	if err := p.details.do(r.Context(), http.MethodGet, "/details"+bookPath, v.User, nil, v.Book); err != nil {
		v.Book, v.DetailsError = nil, err.Error()
	}
	if err := p.reviews.do(r.Context(), http.MethodGet, "/reviews"+bookPath, v.User, nil, v.Reviews); err != nil {
		v.Reviews, v.ReviewsError = nil, err.Error()
	} else {
		slices.Reverse(v.Reviews.Readers)
	}
	var body bytes.Buffer
	if err := page.Execute(&body, v); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w)
}

// rate passes stars on, whoever asks: nobody signed in is refused behind it, by policy.
func (p *productpage) rate(w http.ResponseWriter, r *http.Request, page *template.Template) {
	given, err := strconv.Atoi(r.PostFormValue("stars"))
	if err != nil {
		p.show(w, r, page, http.StatusBadRequest, "Choose one to five stars.")
		return
	}
	err = p.ratings.do(r.Context(), http.MethodPost, "/ratings"+bookPath, user(r), rating{Stars: given}, nil)
	var refused *refusal
	switch {
	case errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 500:
		p.show(w, r, page, refused.Status, "Your stars were not taken: "+err.Error()+".")
	case err != nil:
		p.show(w, r, page, http.StatusBadGateway, "Your stars were not taken: "+err.Error()+".")
	default:
		http.Redirect(w, r, "/productpage", http.StatusSeeOther)
	}
}

// stars says for each of the stars whether it is full.
func stars(n int) []bool {
	out := make([]bool, maxStars)
	for i := range out {
		out[i] = i < n
	}
	return out
}
