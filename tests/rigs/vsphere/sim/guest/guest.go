// Package guest is a guest's user land: files in a folder of the host's, and programs that really run.
//
// A Linux guest runs them as VMware Tools do: `bash -c '"PROGRAM" ARGUMENTS'`. For a Windows guest the command line is
// taken apart by the rules of CommandLineToArgvW, and of cmd.exe where that is the program (see windows.go, cmd.go).
package guest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// What Tools say no with.
var (
	ErrNotFound     = errors.New("there is no such file")
	ErrNotAllowed   = errors.New("it cannot be run")
	ErrNotDirectory = errors.New("it is no directory")
	ErrOutside      = errors.New("it is not below the guest's own folder")
	ErrExists       = errors.New("there is such a file")
	ErrNoProcess    = errors.New("there is no such process")
)

// Tools remember programs that have ended for so long.
const memory = 5 * time.Minute

// Guest is one user land. Its folder is where all its own files are; a path in a Linux guest is one of the host's.
type Guest struct {
	folder   string
	recorder string
	windows  bool
	programs map[string]string

	mu        sync.Mutex
	processes []*Process
	groups    map[int]bool // of processes of the host's that run
	last      int64        // Windows' own numbers
}

// Spec is a program to be run.
type Spec struct {
	Program     string
	Arguments   string
	Directory   string
	Environment []string
	Owner       string
}

// Process is a program that was started. Times are whole seconds, as Tools tell them.
type Process struct {
	PID         int64      `json:"pid"`
	Program     string     `json:"program"`
	CommandLine string     `json:"command_line"`
	Owner       string     `json:"owner"`
	Argv        []string   `json:"argv"` // what the program itself received; a shell's, if it ran others
	StartedAt   time.Time  `json:"started_at"`
	EndedAt     *time.Time `json:"ended_at"`
	ExitCode    int32      `json:"exit_code"`

	host   int    // its number on the host; a Windows guest's are known by their groups alone
	record string // a file where the recorder writes
	ended  chan struct{}
}

// New is a user land in an empty folder. `programs` are those of a Windows guest, by their paths there.
func New(folder, recorder string, windows bool, programs map[string]string) (*Guest, error) {
	g := &Guest{folder: folder, recorder: recorder, windows: windows, programs: programs, groups: map[int]bool{}}
	for _, name := range []string{g.host(g.temp()), g.host(g.home()), filepath.Join(folder, ".records")} {
		if err := os.MkdirAll(name, 0o700); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// Start begins a program and does not wait for it.
func (g *Guest) Start(spec Spec) (int64, error) {
	if g.windows {
		return g.startWindows(spec)
	}
	return g.startLinux(spec)
}

// List is the processes with these numbers, or all: those that run and those that ended not long ago.
func (g *Guest) List(pids []int64) (found []Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.processes = slices.DeleteFunc(g.processes, func(p *Process) bool {
		return p.EndedAt != nil && time.Since(*p.EndedAt) > memory
	})
	for _, process := range g.processes {
		if len(pids) == 0 || slices.Contains(pids, process.PID) {
			found = append(found, process.shown())
		}
	}
	return found
}

// How long Tools wait for a process to heed SIGTERM.
const heed = 5 * time.Second

// Terminate ends one process and no other: in Linux as Tools do, first with SIGTERM; in Windows what it has started
// goes on without it.
func (g *Guest) Terminate(pid int64) error {
	g.mu.Lock()
	at := slices.IndexFunc(g.processes, func(p *Process) bool { return p.PID == pid && p.EndedAt == nil })
	if at < 0 {
		g.mu.Unlock()
		return ErrNoProcess
	}
	process := g.processes[at]
	g.mu.Unlock()
	if process.host == 0 {
		g.finish(process, -1)
		return nil
	}
	_ = syscall.Kill(process.host, syscall.SIGTERM)
	select {
	case <-process.ended:
	case <-time.After(heed):
		_ = syscall.Kill(process.host, syscall.SIGKILL)
		<-process.ended
	}
	return nil
}

// PowerOff ends all, and what they started as far as it stayed in their groups.
func (g *Guest) PowerOff() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for group := range g.groups {
		_ = syscall.Kill(-group, syscall.SIGKILL)
		delete(g.groups, group)
	}
}

// follow notes a group of processes, until the result is called and nobody is left in it.
func (g *Guest) follow(group int) func() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.groups[group] = true
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if syscall.Kill(-group, 0) != nil {
			delete(g.groups, group)
		}
	}
}

// finish notes a process's end.
func (g *Guest) finish(process *Process, code int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if process.EndedAt != nil {
		return
	}
	now := seconds()
	process.EndedAt, process.ExitCode = &now, code
	close(process.ended)
}

func seconds() time.Time {
	return time.Now().Truncate(time.Second).UTC()
}
