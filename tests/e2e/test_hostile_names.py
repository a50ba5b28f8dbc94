"""Names that are commands to a terminal, of VMs at a real provider, as the real command line shows them on one."""

import os
import pty
import subprocess
import sys
import unicodedata
from collections.abc import Iterator

import pytest
import yaml

from tests.rigs.process import ROOT, Provider

NAMES = ("db[/old]", "a\nweb: GRACEFUL", "\x1b[2Jgone", "\u009b31m", "\u202edb", "[red]db", ":skull:")
COLOURS = "\x1b["
"""What the command line itself says to a terminal begins so."""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    script = tmp_path_factory.mktemp("sim") / "guests.yaml"
    script.write_text(yaml.safe_dump({"guests": {name: {"shutdown_time": "200ms"} for name in NAMES}}))
    with Provider("sim", f"--script={script}") as provider:
        yield provider


def on_a_terminal(provider: Provider, *words: str) -> tuple[str, int]:
    """What a command shows there, and its exit code."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"VMPOWER_PROVIDER": provider.address, "TERM": "xterm", "COLUMNS": "200"}
    command = [sys.executable, "-m", "cli", *words]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 65_536):
                shown += more
        except OSError:  # EIO: nobody has the other end any more
            pass
    os.close(ours)
    return shown.decode(), process.returncode


def hidden(text: str) -> set[str]:
    """Characters that are not to be seen, beside ends of lines and those of colours."""
    kept = text.replace("\r\n", "").replace("\r", "").replace("\n", "").replace(COLOURS, "")
    return {character for character in kept if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")}


@pytest.mark.parametrize("command", ["list", "forecast", "operations"])
def test_a_list_shows_them_as_text(provider: Provider, command: str) -> None:
    shown, code = on_a_terminal(provider, command)
    assert (hidden(shown), code) == (set(), 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_shutdown_is_watched_to_its_end(provider: Provider, name: str) -> None:
    shown, code = on_a_terminal(provider, "shutdown", name)
    assert (hidden(shown), code) == (set(), 0)
    assert "GRACEFUL" in shown
    assert COLOURS + "2Jgone" not in shown


def test_a_line_is_one_vms(provider: Provider) -> None:
    shown, _ = on_a_terminal(provider, "list")
    assert not [line for line in shown.splitlines() if line.startswith("web: GRACEFUL")]
    assert "db[/old]" in shown
