package apitest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// process is a program that runs, and ends with the test's own process at the latest.
type process struct {
	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

func start(t testing.TB, dir, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, dir: dir, cmd: exec.Command(program, args...), done: make(chan struct{})}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	go func() {
		_ = p.cmd.Wait()
		_ = log.Close()
		close(p.done)
	}()
	return p
}

// again starts the program anew, with the same arguments.
func (p *process) again() *process {
	p.t.Helper()
	return start(p.t, p.dir, p.cmd.Path, p.cmd.Args[1:]...)
}

// kill ends the process and waits for it. One that ended is left alone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stopped says whether every thread is stopped (state T in proc_pid_stat(5), which follows the program's name in brackets).
func (p *process) stopped() bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	if err != nil {
		return false
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(task)
		if err != nil {
			return false // it ended meanwhile: look again
		}
		if _, state, found := bytes.Cut(stat, []byte(") ")); !found || state[0] != 'T' {
			return false
		}
	}
	return len(tasks) > 0
}

func (p *process) logFile() string { return filepath.Join(p.dir, filepath.Base(p.cmd.Path)+".log") }

// log is the end of what the process printed.
func (p *process) log() string {
	const most = 8 << 10
	b, _ := os.ReadFile(p.logFile())
	return string(b[max(0, len(b)-most):])
}
