"""Quoting, tried on a real sh, and on the rules of cmd.exe and Windows programs as far as they can be written down."""

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.errors import CommandFailed
from providers.vsphere.quoting import for_guest

OUTPUT = r"C:\Users\web admin\AppData\Local\Temp\vmpower-1.out"
NASTY = [
    "a b",
    "",
    '"',
    "'",
    "it's",
    "$HOME",
    "`id`",
    "%PATH%",
    "!x!",
    "^",
    "&|<>()",
    "*",
    "\\",
    'a\\"b',
    "ü ☕",
    "~",
    "#",
]
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=20)


def run_on_linux(command: list[str], folder: Path) -> str:
    """As VMware Tools do it: the program in quotes, its arguments after it, and a shell for the whole."""
    output = folder / "out put"
    program = for_guest("linuxGuest", command, str(output))
    subprocess.run(["/bin/sh", "-c", f'"{program.path}" {program.arguments}'], check=False)
    return output.read_text()


def received(command: list[str], folder: Path) -> list[str]:
    """What a Linux program gets."""
    program = ["/usr/bin/env", "python3", "-c", "import sys; print(ascii(sys.argv[1:]))"]
    words: list[str] = eval(run_on_linux([*program, *command], folder))
    return words


def test_a_linux_program_receives_exactly_its_words(tmp_path: Path) -> None:
    assert received([*NASTY, "two\nlines", "tab\there"], tmp_path) == [*NASTY, "two\nlines", "tab\there"]


def test_both_streams_of_a_linux_program_go_to_the_file(tmp_path: Path) -> None:
    assert run_on_linux(["sh", "-c", "echo out; echo err >&2"], tmp_path) == "out\nerr\n"


def test_a_missing_linux_program_says_so_in_the_file(tmp_path: Path) -> None:
    assert "not found" in run_on_linux(["/no/such program"], tmp_path)


# Windows


def to_cmd(*command: str) -> str:
    """The line that cmd.exe is to run: what is left of its arguments when it has taken off the outer quotes."""
    program = for_guest("windowsGuest", command, OUTPUT)
    assert program.path == r"C:\Windows\System32\cmd.exe"
    line = program.arguments.removeprefix('/d /s /v:off /c "').removesuffix('"')
    assert len(line) == len(program.arguments) - len('/d /s /v:off /c ""')
    return line


def after_cmd(line: str) -> tuple[str, str]:
    """What the program gets, and where its output goes. Quotes hide special characters, a caret outside them hides one.

    https://learn.microsoft.com/en-us/windows-server/administration/windows-commands/cmd
    """
    passed, quoted, rest = "", False, line
    while rest:
        if rest[0] == '"':
            quoted = not quoted
        elif not quoted and rest[0] == "^":
            passed, rest = passed + rest[1], rest[2:]
            continue
        elif not quoted and rest[0] == ">":
            return passed, rest
        assert quoted or rest[0] not in "&|<()%!", f"cmd.exe would act on {rest!r}"
        assert rest[0] != "%", f"cmd.exe would expand {rest!r}"
        passed, rest = passed + rest[0], rest[1:]
    raise AssertionError("nothing is redirected")


def to_argv(line: str) -> list[str]:
    """CommandLineToArgvW, but for the rule of two quotes in a row, which needs no telling.

    https://learn.microsoft.com/en-us/windows/win32/api/shellapi/nf-shellapi-commandlinetoargvw
    """
    words, word, quoted, begun = list[str](), "", False, False
    for slashes, character in re.findall(r"(\\*)([^\\]|$)", line, re.DOTALL):
        if character == '"':
            word += "\\" * (len(slashes) // 2)
            begun = True
            if len(slashes) % 2:
                word += '"'
            else:
                quoted = not quoted
            continue
        word += slashes
        begun = begun or bool(slashes)
        if character in ("", " ", "\t") and not quoted:
            words += [word] if begun else []
            word, begun = "", False
        else:
            word, begun = word + character, True
    return words


def test_a_windows_program_receives_exactly_its_words() -> None:
    passed, _ = after_cmd(to_cmd(r"C:\Program Files\App\app.exe", *NASTY))
    assert to_argv(passed) == [r"C:\Program Files\App\app.exe", *NASTY]


@given(st.lists(WORDS, max_size=5))
def test_a_windows_program_receives_whatever_words(words: list[str]) -> None:
    passed, _ = after_cmd(to_cmd("app.exe", *words))
    assert to_argv(passed) == ["app.exe", *words]


def test_both_streams_of_a_windows_program_go_to_the_file() -> None:
    assert after_cmd(to_cmd("app.exe", "7"))[1] == f'>"{OUTPUT}" 2>&1'


@given(st.lists(WORDS | st.just("two\nlines"), max_size=5))
def test_a_windows_program_receives_line_breaks_past_cmd(words: list[str]) -> None:
    program = for_guest("windowsGuest", ["app.exe", *words, "\n"], "")
    assert to_argv(f"{program.path} {program.arguments}") == ["app.exe", *words, "\n"]


def test_a_line_break_in_a_programs_path_is_refused_on_windows() -> None:
    with pytest.raises(CommandFailed, match="line break"):
        to_cmd("app\n.exe")


@pytest.mark.parametrize("program", ["%SystemRoot%\\app.exe", '"app".exe'])
def test_a_program_that_cmd_would_read_otherwise_is_refused(program: str) -> None:
    with pytest.raises(CommandFailed, match="in its path"):
        to_cmd(program)


def test_a_line_longer_than_cmd_takes_is_refused() -> None:
    with pytest.raises(CommandFailed, match="8191"):
        to_cmd("app.exe", "x" * 8191)


# Both


@pytest.mark.parametrize("family", ["linuxGuest", "windowsGuest"])
@pytest.mark.parametrize("character", ["\0", "\r", "\x1b", "\ufffe"])
def test_what_xml_cannot_carry_is_refused(family: str, character: str) -> None:
    with pytest.raises(CommandFailed, match="control characters"):
        for_guest(family, ["app", f"a{character}b"], OUTPUT)


@pytest.mark.parametrize("family", ["", "solarisGuest", "otherGuestFamily"])
def test_a_guest_that_is_not_windows_has_a_sh(family: str) -> None:
    assert for_guest(family, ["app"], "/tmp/out").path == "/bin/sh"
