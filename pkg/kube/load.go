package kube

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// tellEvery is how often one who waits for a cluster is told what for.
const tellEvery = 5 * time.Second

// Load reads a cluster once. What no waiting mends is an error at once; while there is hope, tell is called now and then (Config.TellEvery) with what is waited for, and why.
func Load(ctx context.Context, c Config, tell func(why string)) (*model.Snapshot, error) {
	s := NewSource(c)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = s.Run(ctx) })
	waiting := time.NewTicker(cmp.Or(c.TellEvery, tellEvery))
	defer waiting.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w, still waiting for %s; see whether the API server answers kubectl", context.Cause(ctx), s.wanting())
		case <-waiting.C:
			tell("waiting for " + s.wanting())
		case <-s.troubled:
			if err := s.hopeless(); err != nil {
				return nil, err
			}
		case <-s.Changed():
		}
		if snapshot, complete := s.Snapshot(); complete {
			return snapshot, nil
		}
		if problems := s.Problems(); len(problems) > 0 {
			var told []string
			for _, p := range problems {
				told = append(told, p.String())
			}
			return nil, errors.New(strings.Join(told, "; "))
		}
	}
}

// wanting are the kinds that were not listed yet, and why one of them was not, where that is known.
func (s *Source) wanting() string {
	text := strings.Join(s.Waiting(), ", ")
	for _, f := range s.feeds {
		if err := f.failure.Load(); err != nil && !f.synced() {
			return fmt.Sprintf("%s (%s: %s)", text, f.kind, cause(*err))
		}
	}
	return text
}

// hopeless is a failure that stays as long as nobody does anything about it, with what to do; nil where there is none.
func (s *Source) hopeless() error {
	for _, f := range s.feeds {
		if err := f.failure.Load(); err != nil && !f.synced() {
			if remedy := f.remedy(*err); remedy != "" {
				return fmt.Errorf("%s: %w; %s", f.kind, cause(*err), remedy)
			}
		}
	}
	return nil
}

// cause is an error without the request that met it, whose address is told once.
func cause(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		return request.Err
	}
	return err
}

// remedy is what the user of a command can do about a failure that does not go away by itself; "" for others.
func (f *feed) remedy(err error) string {
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there: start the cluster, or name another with --kubeconfig"
	case errors.As(err, &name) && name.IsNotFound:
		return "there is no such host: name another cluster with --kubeconfig"
	case errors.As(err, &certificate):
		return "the kubeconfig's authority did not sign the API server's certificate: take the kubeconfig anew, or name another with --kubeconfig"
	case apierrors.IsUnauthorized(err):
		return "the kubeconfig's credentials are not taken: log in again, or name another with --kubeconfig"
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("grant list and watch of %s to the kubeconfig's user", f.kind)
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("install the definition of %s (manifests/crd)", f.kind)
	}
	return ""
}
