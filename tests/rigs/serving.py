"""A program that a page starts and that goes on beside what is typed next, as in another terminal: for page.py.

python -m tests.rigs.serving start LOG COMMAND  # prints the process's number when it serves
python -m tests.rigs.serving end NUMBER...      # returns when they have ended
"""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.rigs.process import pidfd, serves, wait_for_end

LISTENS = re.compile(r"python -m providers\..*--listen (\S+)", re.DOTALL)
"""Where a provider is asked; a controller says by itself when it serves."""
PATIENCE = 60


def start(log: Path, command: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start it by a shell, with `log` for all that it prints; its process. It serves when it has told systemd so, and a
    provider when its hypervisor answers.

    Raises:
        RuntimeError: it ended, or does not serve in time; the message has what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="vmp-", dir="/tmp") as folder, log.open("ab") as printed:
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        told.bind(f"{folder}/notify")
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            env=dict(environment) | {"NOTIFY_SOCKET": f"{folder}/notify"},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        with told, pidfd(process.pid) as ended:
            if not (_tells(told, ended) and _answers(command, process.pid)):
                process.kill()
                process.wait()
                raise RuntimeError(f"{command} does not serve:\n{log.read_text()}")
    return process


def end(number: int) -> None:
    """End it, if it has not ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGTERM)
        wait_for_end(number)


def _answers(command: str, pid: int) -> bool:
    listen = LISTENS.search(command)
    return serves(listen[1], pid, PATIENCE) if listen else True


def _tells(told: socket.socket, ended: int) -> bool:
    while True:
        ready, _, _ = select.select([told.fileno(), ended], [], [], PATIENCE)
        if told.fileno() not in ready:
            return False
        if b"READY=1" in told.recv(4096).split(b"\n"):
            return True


def main(action: str, *words: str) -> None:
    """As `__doc__` says; what a program printed that does not serve goes to stderr."""
    if action == "start":
        try:
            print(start(Path(words[0]), words[1], os.environ).pid)
        except RuntimeError as error:
            sys.exit(str(error))
    else:
        for number in words:
            end(int(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
