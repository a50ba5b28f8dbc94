"""A command as a guest must be told it, so that the program receives exactly the words it was given.

VMware Tools take a program and one string of arguments (GuestProgramSpec). On Linux they hand both to a shell; on
Windows the program takes the string apart by itself. They collect no output, so a shell has to write it to a file:
it gets the command as separate words, and the file as another.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from subprocess import list2cmdline

from providers.core.errors import CommandFailed

LONGEST = 8191
"""Characters in a line of cmd.exe (its documented limit)."""

_NOT_IN_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
"""What XML 1.0 cannot carry; a carriage return would arrive as a line feed."""
_CMD_SPECIAL = re.compile(r'[()%!^"<>&|]')


@dataclass(frozen=True, slots=True)
class Program:
    """What StartProgramInGuest is given."""

    path: str
    arguments: str


def by_shell(family: str, command: Sequence[str]) -> bool:
    """Whether a shell can carry it, which then writes what it prints to a file: cmd.exe ends at a line break."""
    return family != "windowsGuest" or not any("\n" in word for word in command)


def for_guest(family: str, command: Sequence[str], output: str) -> Program:
    """The command, with what it prints going to the file `output`, if it is `by_shell`. `family` is
    GuestInfo.guestFamily.

    Raises:
        CommandFailed: it cannot be carried unchanged.
    """
    if any(_NOT_IN_XML.search(word) for word in command):
        raise CommandFailed("vSphere carries no control characters; the hook's owner leaves them out of the command.")
    if family != "windowsGuest":
        return _posix(command, output)
    return _windows(command, output) if by_shell(family, command) else _direct(command)


def _posix(command: Sequence[str], output: str) -> Program:
    """The words are sh's positional parameters, where nothing expands them; `exec` makes it become the program."""
    return Program("/bin/sh", shlex.join(["-c", 'exec "$@" >"$0" 2>&1', output, *command]))


def _windows(command: Sequence[str], output: str) -> Program:
    """Quoted first for the program (the rules of CommandLineToArgvW), then each special character for cmd.exe.

    The program's own path stands in quotes that cmd.exe sees, or it would end at the first space.
    """
    path, *words = command
    if re.search('[%"]', path):
        raise CommandFailed("cmd.exe runs no program with % or quotes in its path; the hook's owner renames it.")
    arguments = _CMD_SPECIAL.sub(r"^\g<0>", list2cmdline(words))
    line = f'"{path}" {arguments} >"{output}" 2>&1'
    if len(line) > LONGEST:
        raise CommandFailed(f"cmd.exe takes no more than {LONGEST} characters; the hook's owner puts some into a file.")
    return Program(r"C:\Windows\System32\cmd.exe", f'/d /s /v:off /c "{line}"')


def _direct(command: Sequence[str]) -> Program:
    """No shell: tools hand the words over as they are quoted for the program, and what it prints is not collected."""
    path, *words = command
    if "\n" in path:
        raise CommandFailed("No Windows program has a line break in its path; the hook's owner mends the command.")
    return Program(path, list2cmdline(words))
