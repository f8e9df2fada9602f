package check_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func portText(port uint16) string { return strconv.Itoa(int(port)) }

func TestCallers(t *testing.T) {
	t.Parallel()
	w := bookinfoWorld(t)
	for text, want := range map[string][]string{
		"deploy/productpage-v1":                    {"bookinfo/productpage-v1"},
		"deployment/productpage-v1":                {"bookinfo/productpage-v1"},
		"productpage-v1":                           {"bookinfo/productpage-v1"},
		"bookinfo/productpage-v1":                  {"bookinfo/productpage-v1"},
		"bookinfo/deploy/productpage-v1":           {"bookinfo/productpage-v1"},
		"sa/bookinfo-reviews":                      {"bookinfo/reviews-v1", "bookinfo/reviews-v2", "bookinfo/reviews-v3"},
		"ip/192.0.2.1":                             {"192.0.2.1"},
		"ip/2001:db8::1":                           {"2001:db8::1"},
		"ip/[2001:db8::1]":                         {"2001:db8::1"},
		"bookinfo/serviceaccount/bookinfo-ratings": {"bookinfo/ratings-v1"},
	} {
		parties, err := w.Callers(text, "bookinfo")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, p := range parties {
			got = append(got, p.String())
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// What names nobody is answered with what there is.
func TestCallersRefused(t *testing.T) {
	t.Parallel()
	w := bookinfoWorld(t)
	for text, want := range map[string]string{
		"":                    "names nobody",
		"a/b/c/d":             "names nobody",
		"deploy/":             "names nobody",
		"bookinfo/thing/x":    "thing is no kind",
		"deploy/productpage":  "there are details-v1, ingress, productpage-v1",
		"pod/productpage-v1":  "there is no such pod", // a template is no pod
		"elsewhere/cart":      "nothing runs there",
		"sa/nobody":           "no such account that pods run as",
		"svc/reviews":         "a Service calls nobody",
		"ip/reviews":          "is no IP address",
		"statefulset/details": "there is no such workload",
	} {
		if _, err := w.Callers(text, "bookinfo"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestCallees(t *testing.T) {
	t.Parallel()
	w := bookinfoWorld(t)
	type callees struct {
		Ports []string
		Host  string
	}
	for text, want := range map[string]callees{
		"svc/reviews:9080":        {[]string{"bookinfo/reviews-v1 9080 TCP", "bookinfo/reviews-v2 9080 TCP", "bookinfo/reviews-v3 9080 TCP"}, "reviews:9080"},
		"svc/details":             {[]string{"bookinfo/details-v1 9080 TCP"}, "details:9080"}, // its only port
		"svc/ingress:http":        {[]string{"bookinfo/ingress 80 TCP"}, "ingress"},
		"svc/ingress:443":         {[]string{"bookinfo/ingress 443 TCP"}, "ingress:443"},
		"deploy/ingress:admin":    {[]string{"bookinfo/ingress 8001 TCP"}, "ingress"},
		"details-v1":              {[]string{"bookinfo/details-v1 9080 TCP"}, "details-v1"},
		"details-v1:53/udp":       {[]string{"bookinfo/details-v1 53 UDP"}, "details-v1"},
		"details-v1:1234":         {[]string{"bookinfo/details-v1 1234 TCP"}, "details-v1"}, // nobody need declare a port
		"ip/192.0.2.1:443":        {[]string{"192.0.2.1 443 TCP"}, "192.0.2.1"},
		"ip/[2001:db8::1]:53/udp": {[]string{"2001:db8::1 53 UDP"}, "2001:db8::1"},
	} {
		found, host, err := w.Callees(text, "bookinfo")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := callees{Host: host}
		for _, c := range found {
			got.Ports = append(got.Ports, c.String()+" "+portText(c.Port)+" "+string(c.Protocol))
		}
		slices.Sort(got.Ports)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestCalleesRefused(t *testing.T) {
	t.Parallel()
	w := bookinfoWorld(t)
	for text, want := range map[string]string{
		"svc/reviews:80":      "has no port \"80\": it has 9080 http",
		"svc/ingress":         "several ports: write which, of 80 http, 443 https",
		"svc/nothing:80":      "there is no Service nothing in namespace bookinfo; there are details, ingress, productpage, ratings, reviews",
		"elsewhere/svc/x:80":  "there is none at all",
		"sa/nobody:80":        "there are bookinfo-details, bookinfo-ingress, bookinfo-productpage, bookinfo-ratings, bookinfo-reviews",
		"pod/nobody:80":       "there are workloads details-v1, ingress, productpage-v1",
		"deploy/ingress":      "several ports: write which, of 80 http, 443 https, 8001 admin",
		"deploy/ingress:smtp": "has no port \"smtp\"",
		"deploy/ingress:0":    "has no port \"0\"",
		"deploy/x:80":         "there is no such workload",
		"details-v1:80/icmp":  "ICMP is no protocol",
		"ip/192.0.2.1":        "the port is missing: write ip/ADDRESS:PORT",
		"ip/2001:db8::1":      "an IPv6 address in brackets",
		"ip/192.0.2.1:http":   "is no port of an address",
	} {
		if _, _, err := w.Callees(text, "bookinfo"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// A port speaks HTTP where a Service says so: a call to it is a request.
func TestSpeaksHTTP(t *testing.T) {
	t.Parallel()
	w := bookinfoWorld(t)
	for text, want := range map[string]bool{"ingress:80": true, "ingress:443": false, "ingress:80/udp": false, "ip/192.0.2.1:80": false} {
		found, _, err := w.Callees(text, "bookinfo")
		if err != nil {
			t.Fatal(err)
		}
		if got := found[0].SpeaksHTTP(); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
