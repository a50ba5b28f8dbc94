// The recorder stands between a guest's shell and a program: it writes down what the shell handed over, and becomes
// the program. Nothing is told of it but by these variables, which the program does not get.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

const (
	program = "VSPHERE_RIG_PROGRAM" // what to become
	record  = "VSPHERE_RIG_RECORD"  // where to write
)

func main() {
	path := os.Getenv(program)
	text, err := json.Marshal(append([]string{path}, os.Args[1:]...))
	if err == nil {
		err = os.WriteFile(os.Getenv(record), text, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
	err = become(path, os.Args[1:])
	fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
	os.Exit(126) // as a shell
}

func become(path string, args []string) error {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, program+"=") && !strings.HasPrefix(entry, record+"=") {
			env = append(env, entry)
		}
	}
	err := syscall.Exec(path, append([]string{path}, args...), env)
	if errors.Is(err, syscall.ENOEXEC) { // a script without a first line; a shell runs it by itself
		return syscall.Exec("/bin/sh", append([]string{"sh", path}, args...), env)
	}
	return err
}
