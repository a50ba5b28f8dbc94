package guest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// shell runs command lines of a Windows guest.
type shell struct {
	guest     *Guest
	process   *Process
	directory string // the host's
	variables map[string]string
}

// files are what a program reads and writes; nil: nothing.
type files [3]*os.File

// unrecognized is what cmd.exe says of what it does not find.
const unrecognized = "'%s' is not recognized as an internal or external command,\r\n" +
	"operable program or batch file.\r\n"

// What cmd.exe ends with.
const (
	failed        = 1
	misunderstood = 255 // by the rig
)

// call runs what a command line names, and returns its exit code.
func (s *shell) call(line string, files files) int32 {
	name, arguments := first(line)
	if s.guest.isCmd(name) {
		return s.cmd(arguments, files)
	}
	program := s.guest.find(name)
	if program == "" {
		say(files[2], fmt.Sprintf(unrecognized, name))
		return failed
	}
	argv := split(line)
	s.received(argv)
	return s.run(program, argv[1:], files)
}

func (s *shell) received(argv []string) {
	s.guest.mu.Lock()
	defer s.guest.mu.Unlock()
	s.process.Argv = argv
}

func (s *shell) run(program string, arguments []string, files files) int32 {
	command := exec.Command(program, arguments...)
	command.Dir = s.directory
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	for name, value := range s.variables {
		command.Env = append(command.Env, name+"="+value)
	}
	attach(command, files)
	if err := command.Start(); err != nil {
		say(files[2], err.Error()+"\r\n")
		return failed
	}
	defer s.guest.follow(command.Process.Pid)()
	return exitCode(command.Wait())
}

// attach: a nil file is no nil reader.
func attach(command *exec.Cmd, files files) {
	if files[0] != nil {
		command.Stdin = files[0]
	}
	if files[1] != nil {
		command.Stdout = files[1]
	}
	if files[2] != nil {
		command.Stderr = files[2]
	}
}

// cmd is cmd.exe.
func (s *shell) cmd(arguments string, files files) int32 {
	s.received(append([]string{Cmd}, arguments))
	commands, err := s.commands(arguments)
	if err != nil {
		say(files[2], err.Error()+"\r\n")
		return misunderstood
	}
	code := int32(0)
	for _, command := range commands {
		if (command.after == "&&" && code != 0) || (command.after == "||" && code == 0) {
			continue
		}
		var ended bool
		if code, ended = s.one(command, files); ended {
			break
		}
	}
	return code
}

func (s *shell) commands(arguments string) ([]command, error) {
	line, err := inner(arguments, func(name string) bool { return s.guest.find(name) != "" || s.guest.isCmd(name) })
	if err != nil {
		return nil, err
	}
	if line, err = expanded(line, s.variables); err != nil {
		return nil, err
	}
	return parse(line)
}

// one is a single command; the other result says that it ends cmd.exe.
func (s *shell) one(command command, files files) (code int32, ended bool) {
	opened, err := s.redirected(command.redirects, &files)
	defer func() {
		for _, file := range opened {
			_ = file.Close()
		}
	}()
	if err != nil {
		say(files[2], "The system cannot find the path specified.\r\n")
		return failed, false
	}
	text := strings.TrimLeft(command.text, " \t@")
	name, rest := first(text)
	switch strings.ToLower(name) {
	case "":
		return 0, false
	case "echo":
		say(files[1], strings.TrimPrefix(rest, " ")+"\r\n")
		return 0, false
	case "exit":
		return exitWith(rest), true
	}
	return s.call(text, files), false
}

func exitWith(rest string) int32 {
	rest = strings.TrimSpace(rest)
	if len(rest) >= 2 && strings.EqualFold(rest[:2], "/b") {
		rest = strings.TrimSpace(rest[2:])
	}
	code, _ := strconv.Atoi(rest)
	return int32(code)
}

// redirected opens the files; those of `files` that others take the place of stay open.
func (s *shell) redirected(redirects []redirect, files *files) (opened []*os.File, err error) {
	for _, redirect := range redirects {
		handle := redirect.handle - '0'
		if handle > 2 {
			return opened, errUnknown
		}
		if strings.HasPrefix(redirect.target, "&") {
			files[handle] = files[redirect.target[1]-'0']
			continue
		}
		file, err := s.open(redirect)
		if err != nil {
			return opened, err
		}
		opened = append(opened, file)
		files[handle] = file
	}
	return opened, nil
}

func (s *shell) open(redirect redirect) (*os.File, error) {
	path := s.guest.host(redirect.target)
	if strings.EqualFold(redirect.target, "nul") {
		path = os.DevNull
	}
	switch redirect.mode {
	case "<":
		return os.Open(path)
	case ">>":
		return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	return os.Create(path)
}

func say(to *os.File, text string) {
	if to != nil {
		_, _ = io.WriteString(to, text)
	}
}
