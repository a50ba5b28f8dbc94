package guest

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// bash is what Tools prefer, because it becomes the program of a simple command.
const bash = "/bin/bash"

// unquotable are the characters that mean something between the quotes that Tools put around a program's path.
const unquotable = "$`\\\""

var records atomic.Int64

// startLinux does what Tools do: look whether there is such a program, and leave the rest to bash.
func (g *Guest) startLinux(spec Spec) (int64, error) {
	directory := spec.Directory
	if directory == "" {
		directory = g.home()
	}
	if err := runnable(spec.Program, directory); err != nil {
		return 0, err
	}
	environment := spec.Environment
	if len(environment) == 0 {
		environment = g.environment(spec.Owner)
	}
	record := filepath.Join(g.folder, ".records", strconv.FormatInt(records.Add(1), 10))
	program := spec.Program
	if !strings.ContainsAny(program, unquotable) {
		program = g.recorder
		environment = append(environment, "VSPHERE_RIG_PROGRAM="+spec.Program, "VSPHERE_RIG_RECORD="+record)
	}
	command := exec.Command(bash, "-c", commandLine(program, spec.Arguments))
	command.Dir, command.Env = directory, environment
	return g.run(command, spec, record)
}

// run starts a process of the host's, in a group of its own that ends with it and with the rig.
func (g *Guest) run(command *exec.Cmd, spec Spec, record string) (int64, error) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return 0, err
	}
	pid := command.Process.Pid
	process := &Process{
		PID: int64(pid), Program: spec.Program, CommandLine: commandLine(spec.Program, spec.Arguments),
		Owner: spec.Owner, StartedAt: seconds(), host: pid, record: record, ended: make(chan struct{}),
	}
	g.mu.Lock()
	g.processes = append(g.processes, process)
	g.mu.Unlock()
	ended := g.follow(pid)
	go func() {
		defer ended()
		g.finish(process, exitCode(command.Wait()))
	}()
	return process.PID, nil
}

// shown is the process with what its program received, as far as it was told by now.
func (p *Process) shown() Process {
	if p.Argv == nil && p.record != "" {
		if text, err := os.ReadFile(p.record); err == nil {
			_ = json.Unmarshal(text, &p.Argv)
		}
	}
	return *p
}

func runnable(program, directory string) error {
	info, err := os.Stat(program)
	switch {
	case err != nil:
		return ErrNotFound
	case info.IsDir() || info.Mode()&0o111 == 0:
		return ErrNotAllowed
	}
	if info, err := os.Stat(directory); err != nil || !info.IsDir() {
		return ErrNotDirectory
	}
	return nil
}

func commandLine(program, arguments string) string {
	if arguments == "" {
		return `"` + program + `"`
	}
	return `"` + program + `" ` + arguments
}

// environment is that of a user that Tools act for, if the caller gives none.
func (g *Guest) environment(owner string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + g.home(), "TMPDIR=" + g.temp(), "USER=" + owner, "LOGNAME=" + owner, "LANG=C.UTF-8",
	}
}

// exitCode is -1 for a process that did not end by itself, as with Tools.
func exitCode(err error) int32 {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int32(exit.ExitCode())
	}
	return -1
}
