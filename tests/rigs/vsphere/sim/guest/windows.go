package guest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Cmd is where cmd.exe is, in every Windows guest. It is not real: cmd.go does what it would.
const Cmd = `C:\Windows\System32\cmd.exe`

// startWindows hands a command line over, as CreateProcess does: it is the program that takes it apart.
//
// The programs of a Windows guest are programs of the host's, which get what a Windows program's main would.
func (g *Guest) startWindows(spec Spec) (int64, error) {
	if !g.isCmd(spec.Program) && g.find(spec.Program) == "" {
		return 0, ErrNotFound
	}
	directory := g.host(g.home())
	if spec.Directory != "" {
		directory = g.host(spec.Directory)
	}
	if info, err := os.Stat(directory); err != nil || !info.IsDir() {
		return 0, ErrNotDirectory
	}
	process := &Process{
		Program: spec.Program, CommandLine: commandLine(spec.Program, spec.Arguments), Owner: spec.Owner,
		StartedAt: seconds(), ended: make(chan struct{}),
	}
	shell := &shell{guest: g, process: process, directory: directory, variables: variables(g, spec)}
	g.number(process)
	go func() { g.finish(process, shell.call(process.CommandLine, files{})) }()
	return process.PID, nil
}

// number gives it one as Windows would: they are multiples of four.
func (g *Guest) number(process *Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last += 4
	process.PID = 4000 + g.last
	g.processes = append(g.processes, process)
}

// variables are those of the user, and the caller's in their place if it gives any.
func variables(g *Guest, spec Spec) map[string]string {
	found := map[string]string{
		"COMSPEC": Cmd, "OS": "Windows_NT", "PATH": `C:\Windows\System32`, "SYSTEMROOT": `C:\Windows`,
		"TEMP": g.temp(), "TMP": g.temp(), "USERNAME": spec.Owner, "USERPROFILE": g.home(),
	}
	if len(spec.Environment) > 0 {
		clear(found)
	}
	for _, entry := range spec.Environment {
		name, value, _ := strings.Cut(entry, "=")
		found[strings.ToUpper(name)] = value
	}
	return found
}

func (g *Guest) isCmd(name string) bool {
	return slices.ContainsFunc([]string{"cmd", "cmd.exe", Cmd, strings.TrimSuffix(Cmd, ".exe")}, func(known string) bool {
		return strings.EqualFold(known, name)
	})
}

// find is the host's program for a Windows one, by its path, or by its name alone; empty: there is none.
func (g *Guest) find(name string) string {
	for path, program := range g.programs {
		for _, known := range []string{path, base(path)} {
			if strings.EqualFold(known, name) || strings.EqualFold(known, name+".exe") {
				return program
			}
		}
	}
	return ""
}

func base(path string) string {
	return filepath.Base(strings.ReplaceAll(path, `\`, "/"))
}

// split takes a command line apart as a program of Microsoft's C runtime does (since 2008): blanks separate, quotes
// hold together, 2n backslashes before a quote are n, 2n+1 are n and the quote itself, and two quotes within quotes
// are one. The program's own name, the first, knows quotes only.
func split(line string) (argv []string) {
	name, rest := first(line)
	argv = append(argv, name)
	for {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" {
			return argv
		}
		var argument string
		argument, rest = next(rest)
		argv = append(argv, argument)
	}
}

func first(line string) (name, rest string) {
	if strings.HasPrefix(line, `"`) {
		name, rest, _ = strings.Cut(line[1:], `"`)
		return name, rest
	}
	if end := strings.IndexAny(line, " \t"); end >= 0 {
		return line[:end], line[end:]
	}
	return line, ""
}

func next(line string) (argument, rest string) {
	var text strings.Builder
	quoted := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\':
			slashes := len(line[i:]) - len(strings.TrimLeft(line[i:], `\`))
			i += slashes
			if i >= len(line) || line[i] != '"' {
				text.WriteString(strings.Repeat(`\`, slashes))
				i--
				continue
			}
			text.WriteString(strings.Repeat(`\`, slashes/2))
			if slashes%2 == 1 {
				text.WriteByte('"')
			} else {
				i-- // the quote is an ordinary one
			}
		case c == '"' && quoted && strings.HasPrefix(line[i+1:], `"`):
			text.WriteByte('"')
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t'):
			return text.String(), line[i:]
		default:
			text.WriteByte(c)
		}
	}
	return text.String(), ""
}
