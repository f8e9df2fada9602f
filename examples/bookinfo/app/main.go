// Command app is the whole of bookinfo in one program: a role makes it productpage, details, reviews, ratings or the ingress. Input: flags and HTTP
// requests. Output: HTML from productpage, JSON from the services behind it. It uses the standard library only. "app ask" is a client instead, for
// containers without a shell: it sends the requests that it reads.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bookinfo: "+err.Error())
		os.Exit(1)
	}
}

// command is a part of bookinfo, or the client that asks the others on a part's behalf.
func command(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "ask" {
		return ask(ctx, args[1:], os.Stdin, os.Stdout, os.Stderr)
	}
	return run(ctx, args, os.Stderr)
}

// options are the flags. Addresses of other services are base URLs.
type options struct {
	role, version                       string
	listen, tlsListen, adminListen      string
	source                              string
	productpage, details, reviews, rate string
}

func parse(args []string, output io.Writer) (*options, error) {
	var o options
	f := flag.NewFlagSet("bookinfo", flag.ContinueOnError)
	f.SetOutput(output)
	f.StringVar(&o.role, "role", "", "productpage, details, reviews, ratings or ingress (required); probed, for tests, answers probes of every kind")
	f.StringVar(&o.version, "version", "v1", "the version; of reviews, v1 has no stars, v2 black ones and v3 red ones")
	f.StringVar(&o.listen, "listen", ":9080", "where to listen")
	f.StringVar(&o.tlsListen, "tls-listen", "", "ingress: where to listen for TLS, with a certificate made at start")
	f.StringVar(&o.adminListen, "admin-listen", "", "ingress: where its admin interface listens; nobody but the kubelet should reach it")
	f.StringVar(&o.source, "source-address", "", "address that connections to other services come from (default: the system's choice)")
	f.StringVar(&o.productpage, "productpage", "http://productpage:9080", "ingress: base URL of productpage")
	f.StringVar(&o.details, "details", "http://details:9080", "productpage: base URL of details")
	f.StringVar(&o.reviews, "reviews", "http://reviews:9080", "productpage: base URL of reviews; several, separated by commas, are used in turn")
	f.StringVar(&o.rate, "ratings", "http://ratings:9080", "productpage, reviews: base URL of ratings")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: everything is a flag", f.Arg(0))
	}
	return &o, nil
}

// name is who answers, as responses and logs say it.
func (o *options) name() string {
	if o.role == roleIngress || o.role == roleProbed {
		return o.role
	}
	return o.role + "-" + o.version
}

const (
	roleProductpage = "productpage"
	roleDetails     = "details"
	roleReviews     = "reviews"
	roleRatings     = "ratings"
	roleIngress     = "ingress"
	roleProbed      = "probed"
)

func run(ctx context.Context, args []string, output io.Writer) error {
	o, err := parse(args, output)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(output, nil)).With("role", o.name())
	if o.role == roleProbed {
		return serveProbed(ctx, logger)
	}
	listeners, err := o.listeners()
	if err != nil {
		return err
	}
	return serve(ctx, listeners, logger)
}

// listeners are what a role serves, and where.
func (o *options) listeners() ([]listener, error) {
	var err error
	upstream := func(service, bases string) *client {
		c, failed := newClient(service, bases, o.source)
		err = errors.Join(err, failed)
		return c
	}
	own := listener{address: o.listen}
	switch o.role {
	case roleProductpage:
		p := &productpage{details: upstream("details", o.details), reviews: upstream("reviews", o.reviews), ratings: upstream("ratings", o.rate)}
		own.handler = p.routes()
	case roleDetails:
		own.handler = detailsRoutes()
	case roleReviews:
		r := &reviews{version: o.version, stars: starColors()[o.version]}
		if r.stars != "" {
			r.ratings = upstream("ratings", o.rate)
		}
		own.handler = r.routes()
	case roleRatings:
		own.handler = newRatings().routes()
	case roleIngress:
		i := &ingress{upstream: upstream("productpage", o.productpage)}
		if err != nil {
			return nil, err
		}
		own.handler = i.proxy()
		out := []listener{own.named(o.name())}
		if o.tlsListen != "" {
			out = append(out, listener{address: o.tlsListen, handler: own.handler, tls: true}.named(o.name()))
		}
		if o.adminListen != "" {
			out = append(out, listener{address: o.adminListen, handler: withHealth(i.admin())}.named(o.name()))
		}
		return out, nil
	default:
		return nil, fmt.Errorf("role %q: choose productpage, details, reviews, ratings or ingress with --role", o.role)
	}
	if err != nil {
		return nil, err
	}
	own.handler = withHealth(own.handler)
	return []listener{own.named(o.name())}, nil
}
