package main

import (
	"fmt"
	"net/http"
	"net/http/httputil"
)

// ingress passes requests on to productpage and decides nothing by itself: what may pass is the policies' business.
type ingress struct {
	upstream *client
}

func (i *ingress) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Transport: i.upstream.http.Transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(i.upstream.base())
			r.Out.Host = r.In.Host
			r.SetXForwarded()
			// Who the user is, productpage says, by the cookie. From outside the header is only a claim.
			r.Out.Header.Del(endUser)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "productpage unavailable ("+reason(err)+")", http.StatusBadGateway)
		},
	}
}

// admin shows where requests go. It stands for what every real ingress has, and should never be seen from outside.
func (i *ingress) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		for _, base := range i.upstream.bases {
			fmt.Fprintln(w, "upstream "+base.String())
		}
	})
	return mux
}
