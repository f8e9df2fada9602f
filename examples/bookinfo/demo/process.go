package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stopTime = 3 * time.Second
	tailLine = 12
)

// endWithParent ends this process when `go run`, which passes no signal on, is ended.
func endWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return fmt.Errorf("follow the parent process: %w", err)
	}
	return nil
}

// process is a running child.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdout string // files
	stderr string
	done   chan struct{} // closed when it has ended
}

// startProcess starts a child in a process group of its own, so that Ctrl-C reaches this process only, which then stops everything in order.
func startProcess(dir, name, path string, args ...string) (*process, error) {
	p := &process{name: name, stdout: filepath.Join(dir, name+".out"), stderr: filepath.Join(dir, name+".err"), done: make(chan struct{})}
	stdout, err := os.Create(p.stdout)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer func() { _ = stdout.Close() }() // the child has its own copy
	stderr, err := os.Create(p.stderr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer func() { _ = stderr.Close() }()
	p.cmd = exec.Command(path, args...)
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ended is an error with the last of what a process said, once it has ended.
func (p *process) ended() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	said, _ := os.ReadFile(p.stderr)
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	return fmt.Errorf("%s ended (%s):\n%s", p.name, p.cmd.ProcessState, strings.Join(lines[max(0, len(lines)-tailLine):], "\n"))
}

// stopAll asks all to stop, waits a little, and then insists.
func stopAll(all []*process) {
	for _, p := range all {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	late := time.After(stopTime)
	for _, p := range all {
		select {
		case <-p.done:
			continue
		case <-late:
		}
		for _, q := range all {
			_ = q.cmd.Process.Kill()
		}
		<-p.done
	}
}

// residentMiB is how much memory a process holds.
func (p *process) residentMiB() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", p.name, err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var kib float64
		if rest, found := strings.CutPrefix(lines.Text(), "VmRSS:"); found {
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				return 0, fmt.Errorf("memory of %s: %w", p.name, err)
			}
			return kib / 1024, nil
		}
	}
	return 0, errors.New("memory of " + p.name + ": no VmRSS")
}
