package guest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// What cmd.exe does with the text after /C, as far as it is known here; the rest is refused, rather than guessed:
//
//   - quotes around all of it are taken away (by the rule that `cmd /?` tells);
//   - %NAME% is replaced, also within quotes, if there is such a variable; otherwise it stays as it is;
//   - a newline ends it;
//   - outside quotes, ^ takes the meaning from the character that follows;
//   - & && || are between commands, > >> 2> 2>&1 < redirect.
//
// Pipes, parentheses, %NAME:a=b%, delayed expansion, batch files and other built-in commands than echo and exit are
// not known.

var errUnknown = errors.New("the rig's cmd.exe does not know that")

// command is one of a line.
type command struct {
	text      string // what is left for the program, quotes and all
	redirects []redirect
	after     string // the operator before it: "", &, && or ||
}

// redirect is N>TARGET, N>>TARGET, N<TARGET or N>&M.
type redirect struct {
	handle byte
	mode   string // <, > or >>
	target string
}

// inner is the line that cmd.exe is to carry out, of what follows its own name.
func inner(arguments string, exists func(string) bool) (string, error) {
	rest, stripping := arguments, false
	for {
		rest = strings.TrimLeft(rest, " \t")
		if len(rest) < 2 || rest[0] != '/' {
			return "", fmt.Errorf("%w: %q without /C", errUnknown, arguments)
		}
		option := rest[1] | 0x20
		rest = rest[2:]
		switch option {
		case 'c', 'r':
			return unquoted(strings.TrimLeft(rest, " \t"), stripping, exists), nil
		case 's':
			stripping = true
		case 'd', 'q', 'a', 'u':
		case 'v': // delayed expansion, which is off anyway
			if len(rest) < 4 || !strings.EqualFold(rest[:4], ":off") {
				return "", fmt.Errorf("%w: /v%s", errUnknown, rest)
			}
			rest = rest[4:]
		default:
			return "", fmt.Errorf("%w: /%c", errUnknown, option)
		}
	}
}

// unquoted is the line without the quotes around all of it, which need not be a pair.
func unquoted(line string, stripping bool, exists func(string) bool) string {
	if !strings.HasPrefix(line, `"`) || (!stripping && kept(line, exists)) {
		return line
	}
	line = line[1:]
	if last := strings.LastIndexByte(line, '"'); last >= 0 {
		line = line[:last] + line[last+1:]
	}
	return line
}

// kept: two quotes around the name of a program, with a blank in it and nothing that means something, stay.
func kept(line string, exists func(string) bool) bool {
	if strings.Count(line, `"`) != 2 {
		return false
	}
	name, _, _ := strings.Cut(line[1:], `"`)
	return !strings.ContainsAny(name, "&<>()@^|") && strings.ContainsAny(name, " \t") && exists(name)
}

// expanded is the line with its variables. What follows the first of two signs that are no variable may begin one.
func expanded(line string, variables map[string]string) (string, error) {
	var text strings.Builder
	for {
		start := strings.IndexByte(line, '%')
		if start < 0 {
			return text.String() + line, nil
		}
		text.WriteString(line[:start])
		line = line[start+1:]
		name, rest, closed := strings.Cut(line, "%")
		plain, _, modified := strings.Cut(name, ":")
		value, defined := variables[strings.ToUpper(plain)]
		switch {
		case !closed || !defined:
			text.WriteByte('%')
		case modified:
			return "", fmt.Errorf("%w: %%%s%%", errUnknown, name)
		default:
			text.WriteString(value)
			line = rest
		}
	}
}

// parse takes a line apart.
func parse(line string) ([]command, error) {
	line, _, _ = strings.Cut(strings.ReplaceAll(line, "\r", ""), "\n")
	p := &parser{rest: line}
	for p.rest != "" {
		if err := p.step(); err != nil {
			return nil, err
		}
	}
	return append(p.commands, p.now), nil
}

type parser struct {
	rest     string
	quoted   bool
	text     strings.Builder
	now      command
	commands []command
}

func (p *parser) step() error {
	c := p.rest[0]
	switch {
	case c == '"':
		p.quoted = !p.quoted
		p.take(1)
	case p.quoted:
		p.take(1)
	case c == '^':
		p.rest = p.rest[1:]
		p.take(min(1, len(p.rest)))
	case c == '&' || c == '|':
		return p.operator(c)
	case c == '<' || c == '>':
		return p.redirect()
	case c == '(' && strings.TrimSpace(p.text.String()) == "":
		return fmt.Errorf("%w: (", errUnknown)
	default:
		p.take(1)
	}
	p.now.text = p.text.String()
	return nil
}

func (p *parser) take(n int) {
	p.text.WriteString(p.rest[:n])
	p.rest = p.rest[n:]
}

// operator ends a command and begins another.
func (p *parser) operator(c byte) error {
	double := strings.HasPrefix(p.rest[1:], string(c))
	if c == '|' && !double {
		return fmt.Errorf("%w: |", errUnknown)
	}
	operator := string(c)
	if double {
		operator += operator
	}
	p.rest = p.rest[len(operator):]
	p.commands = append(p.commands, p.now)
	p.text.Reset()
	p.now = command{after: operator}
	return nil
}

// A digit right before a redirection is the handle that it is for, if it stands alone.
var handled = regexp.MustCompile(`(^|[ \t])[0-9]$`)

// redirect is taken out of the command, with the digit before it.
func (p *parser) redirect() error {
	found := redirect{mode: p.rest[:1], handle: '1'}
	if found.mode == "<" {
		found.handle = '0'
	}
	p.rest = p.rest[1:]
	if found.mode == ">" && strings.HasPrefix(p.rest, ">") {
		found.mode, p.rest = ">>", p.rest[1:]
	}
	if before := p.text.String(); handled.MatchString(before) {
		found.handle = before[len(before)-1]
		p.text.Reset()
		p.text.WriteString(before[:len(before)-1])
	}
	found.target, p.rest = target(strings.TrimLeft(p.rest, " \t"))
	if found.target == "" {
		return fmt.Errorf("%w: nothing after %s", errUnknown, found.mode)
	}
	p.now.text = p.text.String()
	p.now.redirects = append(p.now.redirects, found)
	return nil
}

// target is a file's name, or &N.
func target(line string) (name, rest string) {
	if strings.HasPrefix(line, "&") && len(line) > 1 {
		return line[:2], line[2:]
	}
	var text strings.Builder
	quoted := false
	for i := range len(line) {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(" \t&|<>", c) >= 0:
			return text.String(), line[i:]
		default:
			text.WriteByte(c)
		}
	}
	return text.String(), ""
}
