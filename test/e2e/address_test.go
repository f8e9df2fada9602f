//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// reusedAddress has the node give the address of an allowed caller to a stranger the moment it is free, which network plugins avoid, and lets the stranger ask
// from the first moment on: how long does it pass for the one that is gone?
func (s *suite) reusedAddress(t *testing.T, ctx context.Context) {
	if s.lab == "" {
		t.Skip("it needs LAB_STATE, on the node itself, to choose a pod's address")
	}
	parts := s.parts(t, ctx)
	program := s.hostProgram(t, ctx)
	victim := parts["productpage-v1"]
	address := netip.MustParseAddr(victim.pod.Status.PodIP)
	leases := filepath.Join(s.lab, "cni-ipam", "lab")
	t.Cleanup(func() {
		clean := context.WithoutCancel(ctx)
		_, _ = s.try(clean, "", "-n", outside, "delete", "pod", "thief", "--ignore-not-found", "--grace-period=1")
		_, _ = s.try(clean, "", "-n", bookinfo, "scale", "deployment/productpage-v1", "--replicas=1")
	})
	s.kubectl(t, ctx, "-n", bookinfo, "scale", "deployment/productpage-v1", "--replicas=0")
	quickly(t, ctx, "the address is free", func() bool {
		_, err := os.Stat(filepath.Join(leases, address.String()))
		return errors.Is(err, os.ErrNotExist)
	})
	if err := os.WriteFile(filepath.Join(leases, "last_reserved_ip.0"), []byte(address.Prev().String()), 0o600); err != nil {
		t.Fatal(err)
	}
	known := s.networkNamespaces(t, ctx)
	s.apply(t, ctx, s.plainPod(outside, "thief", "{app: thief}"))
	var namespace string
	quickly(t, ctx, "the stranger has a network", func() bool {
		for _, name := range s.networkNamespaces(t, ctx) {
			if !slices.Contains(known, name) && s.holds4(ctx, name, address.String()) {
				namespace = name
			}
		}
		return namespace != ""
	})
	began := time.Now()
	st, err := startStream(exec.CommandContext(ctx, "ip", "netns", "exec", namespace, program, "ask", "--timeout", "500ms"))
	if err != nil {
		t.Fatal(err)
	}
	const lasts, interval = 3 * time.Second, 5 * time.Millisecond
	go func() {
		for n := 0; time.Since(began) < lasts; n++ {
			q := readsDetails(parts)
			q.ID = strconv.FormatInt(time.Since(began).Milliseconds(), 10)
			if st.send(q) != nil {
				break
			}
			time.Sleep(interval)
		}
		_ = st.input.Close()
	}()
	asked, passed, last := 0, 0, 0
	for a := range st.answers {
		asked++
		if at, err := strconv.Atoi(a.ID); err == nil && a.outcome() == served {
			passed, last = passed+1, max(last, at)
		}
	}
	if err := <-st.done; err != nil {
		t.Error(err)
	}
	s.measured(t, "a stranger that got an allowed caller's address at once: %d of %d requests passed, the last one %d ms after it had the address", passed, asked, last)
	if limit := time.Second; last > int(limit.Milliseconds()) || asked == 0 {
		t.Errorf("want none after %s, of some", limit)
	}
}

// quickly is eventually, for what lasts milliseconds.
func quickly(t *testing.T, ctx context.Context, what string, holds func() bool) {
	t.Helper()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in time", what)
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *suite) networkNamespaces(t *testing.T, ctx context.Context) []string {
	t.Helper()
	list, err := s.command(ctx, "", "ip", "netns", "list")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(list) {
		out = append(out, strings.Fields(line)[0])
	}
	return out
}

// holds4 says whether a network namespace has an IPv4 address.
func (s *suite) holds4(ctx context.Context, namespace, address string) bool {
	out, err := s.command(ctx, "", "ip", "-n", namespace, "-o", "-4", "addr")
	return err == nil && strings.Contains(out, fmt.Sprintf(" %s/", address))
}
