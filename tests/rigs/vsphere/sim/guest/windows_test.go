package guest

import (
	"slices"
	"testing"
)

func TestACommandLineIsTakenApartAsMicrosoftSays(t *testing.T) {
	for _, c := range []struct {
		line string
		argv []string
	}{
		// Those of Microsoft's own table, "Parsing C command-line arguments".
		{`x "a b c" d e`, []string{"x", "a b c", "d", "e"}},
		{`x "ab\"c" "\\" d`, []string{"x", `ab"c`, `\`, "d"}},
		{`x a\\\b d"e f"g h`, []string{"x", `a\\\b`, "de fg", "h"}},
		{`x a\\\"b c d`, []string{"x", `a\"b`, "c", "d"}},
		{`x a\\\\"b c" d e`, []string{"x", `a\\b c`, "d", "e"}},
		{`x a"b"" c d`, []string{"x", `ab" c d`}},
		// And what else there is.
		{`"C:\a b\x.exe" ""`, []string{`C:\a b\x.exe`, ""}},
		{"x \"a\nb\"\tc", []string{"x", "a\nb", "c"}},
		{`x "C:\dir\\"`, []string{"x", `C:\dir\`}},
		{`x C:\dir\ y`, []string{"x", `C:\dir\`, "y"}},
		{`x ünï✓`, []string{"x", "ünï✓"}},
	} {
		if got := split(c.line); !slices.Equal(got, c.argv) {
			t.Errorf("%s: %q, not %q", c.line, got, c.argv)
		}
	}
}

func exists(name string) bool { return name == `C:\Program Files\x.exe` }

func TestCmdTakesTheQuotesAwayThatAreAroundAllOfItsLine(t *testing.T) {
	for _, c := range []struct{ arguments, line string }{
		{`/c x y`, `x y`},
		{`/C "x y"`, `x y`},
		{`/d /s /c "x "y z""`, `x "y z"`},
		{`/c "C:\Program Files\x.exe" y`, `"C:\Program Files\x.exe" y`},
		{`/s /c "C:\Program Files\x.exe" y`, `C:\Program Files\x.exe y`},
		{`/c "C:\Program Files\x.exe" "y z"`, `C:\Program Files\x.exe" "y z`},
		{`/c "C:\Program Files\y.exe" y`, `C:\Program Files\y.exe y`},
	} {
		if got, err := inner(c.arguments, exists); err != nil || got != c.line {
			t.Errorf("%s: %q, not %q (%v)", c.arguments, got, c.line, err)
		}
	}
}

func TestCmdReplacesVariablesThatThereAre(t *testing.T) {
	variables := map[string]string{"NAME": "value"}
	for _, c := range []struct{ line, expanded string }{
		{`%name%`, `value`},
		{`"100%name%"`, `"100value"`},
		{`%nobody%`, `%nobody%`},
		{`%a%name%`, `%avalue`},
		{`100%`, `100%`},
		{`%%`, `%%`},
		{`%^name%`, `%^name%`},
	} {
		if got, err := expanded(c.line, variables); err != nil || got != c.expanded {
			t.Errorf("%s: %q, not %q (%v)", c.line, got, c.expanded, err)
		}
	}
}

func TestCmdKnowsItsSpecialCharactersOutsideQuotesOnly(t *testing.T) {
	for _, c := range []struct{ line, text string }{
		{`x "a & b | c > d"`, `x "a & b | c > d"`},
		{`x a ^& b ^^ ^>`, `x a & b ^ >`},
		{`x "a ^ b"`, `x "a ^ b"`},
		{`x ^"a`, `x "a`},
		{"x a\nb", "x a"},
		{`x a > out 2>&1`, `x a  `},
		{`x a2> out`, `x a2`},
	} {
		if got, err := parse(c.line); err != nil || len(got) != 1 || got[0].text != c.text {
			t.Errorf("%s: %+v, not %q (%v)", c.line, got, c.text, err)
		}
	}
}

func TestCmdRedirectsAndGoesOn(t *testing.T) {
	got, err := parse(`x >"a b" 2>&1 && y 2>> log || z < nul`)
	want := []command{
		{text: "x   ", redirects: []redirect{{'1', ">", "a b"}, {'2', ">", "&1"}}},
		{text: " y  ", redirects: []redirect{{'2', ">>", "log"}}, after: "&&"},
		{text: " z ", redirects: []redirect{{'0', "<", "nul"}}, after: "||"},
	}
	same := func(a, b command) bool {
		return a.text == b.text && a.after == b.after && slices.Equal(a.redirects, b.redirects)
	}
	if err != nil || !slices.EqualFunc(got, want, same) {
		t.Errorf("%+v, not %+v (%v)", got, want, err)
	}
}

func TestCmdRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, line := range []string{`x | y`, `(x)`, `x >`} {
		if _, err := parse(line); err == nil {
			t.Errorf("%s: it does not", line)
		}
	}
}
