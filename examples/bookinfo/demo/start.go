package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	modulePath = "github.com/pilot-lite/pilot-lite"
	startTime  = 60 * time.Second
	pollTime   = 20 * time.Millisecond
)

// start builds the programs, starts everything, and returns when every sidecar runs what it should and every application answers.
func (w *world) start(ctx context.Context, envoy string) error {
	// One Go toolchain, one build of both: the demo shows what is in this tree.
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(w.dir, "bin")+"/", modulePath+"/cmd/pilot-lite", modulePath+"/examples/bookinfo/app")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, said)
	}
	var err error
	w.control, err = w.launch("pilot-lite", w.pilotLite, "serve", "--from", filepath.Join(w.dir, "yaml"), "--xds-address", "unix:"+w.xds, "--admin-address", "unix:"+w.admin)
	if err != nil {
		return err
	}
	for _, each := range w.workloads {
		if _, err := w.launch("app-"+each.name, filepath.Join(w.dir, "bin", "app"), w.applicationArgs(each)...); err != nil {
			return err
		}
	}
	if err := w.eventually(ctx, "the control plane is ready", w.ready); err != nil {
		return err
	}
	for _, each := range w.workloads {
		bootstrap := filepath.Join(w.dir, each.name+".yaml")
		if said, err := w.command(ctx, "bootstrap", "--node", namespace+"/"+each.name, "--xds-address", "unix:"+w.xds, "--admin-socket", w.adminSocket(each), "--file", bootstrap); err != nil {
			return fmt.Errorf("bootstrap of %s: %w\n%s", each.name, err, said)
		}
		// Access logs, on standard output, are written at once. One worker each: the machine is shared by all.
		each.sidecar, err = w.launch("envoy-"+each.name, envoy, "-c", bootstrap, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning", "--file-flush-interval-msec", "10")
		if err != nil {
			return err
		}
	}
	if err := w.eventually(ctx, "every sidecar runs what it should", w.allEnforced); err != nil {
		return err
	}
	return w.eventually(ctx, "everything listens", w.allListening)
}

func (w *world) launch(name, path string, args ...string) (*process, error) {
	p, err := startProcess(filepath.Join(w.dir, "log"), name, path, args...)
	if err == nil {
		w.processes = append(w.processes, p)
	}
	return p, err
}

// command runs pilot-lite and returns what it printed.
func (w *world) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, w.pilotLite, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("pilot-lite %s: %w\n%s", args[0], err, stderr.String())
	}
	return stdout.String(), nil
}

// eventually repeats a check until it holds, while everything runs.
func (w *world) eventually(ctx context.Context, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	ticker := time.NewTicker(pollTime)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		for _, p := range w.processes {
			if ended := p.ended(); ended != nil {
				return fmt.Errorf("waiting until %s: %w", what, ended)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w: %w", what, ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// overSocket is an HTTP client whose every connection goes to a UNIX socket.
func overSocket(path string) *http.Client {
	return &http.Client{Timeout: answerTime, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

func (w *world) adminSocket(each *workload) string { return filepath.Join(w.dir, each.name+".sock") }

func (w *world) ready(ctx context.Context) error {
	_, err := get(ctx, overSocket(w.admin), "http://admin/readyz")
	return err
}

// proxyStatus is what `pilot-lite status -o json` says of a proxy.
type proxyStatus struct {
	Proxy     string `json:"proxy"`
	Connected bool   `json:"connected"`
	Resources []struct {
		Name     string    `json:"name"`
		State    string    `json:"state"`
		Text     string    `json:"text"`
		Changed  time.Time `json:"changed"`
		Policies []struct {
			Policy     string `json:"policy"`
			Generation int64  `json:"generation"`
		} `json:"policies"`
	} `json:"resources"`
}

func (w *world) status(ctx context.Context) ([]proxyStatus, error) {
	text, err := w.command(ctx, "status", "--address", "unix:"+w.admin, "-o", "json")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Proxies []proxyStatus `json:"proxies"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	return answer.Proxies, nil
}

// allEnforced says whether every proxy is there and runs everything that it should.
func (w *world) allEnforced(ctx context.Context) error {
	proxies, err := w.status(ctx)
	if err != nil {
		return err
	}
	if len(proxies) != len(w.workloads) {
		return fmt.Errorf("%d of %d proxies are known", len(proxies), len(w.workloads))
	}
	for _, p := range proxies {
		if !p.Connected || len(p.Resources) == 0 {
			return fmt.Errorf("%s is not connected", p.Proxy)
		}
		for _, r := range p.Resources {
			if r.State != "enforced" {
				return fmt.Errorf("%s: %s is %s: %s", p.Proxy, r.Name, r.State, r.Text)
			}
		}
	}
	return nil
}

func (w *world) allListening(ctx context.Context) error {
	for _, each := range w.workloads {
		for _, port := range each.ports() {
			for _, address := range []string{each.listen(port).String(), each.application(port).String()} {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
				if err != nil {
					return fmt.Errorf("%s: %w", each.name, err)
				}
				_ = conn.Close()
			}
		}
	}
	return nil
}

// showStatus prints what `pilot-lite status` does.
func (w *world) showStatus(ctx context.Context, out *output) (bool, error) {
	text, err := w.command(ctx, "status", "--address", "unix:"+w.admin)
	if err != nil {
		return false, err
	}
	out.head("pilot-lite status")
	out.text(text)
	return true, w.allEnforced(ctx)
}
