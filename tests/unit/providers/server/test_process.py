import resource
import signal
import subprocess
import sys

import pytest

from providers.server import process
from tests.rigs.process import ROOT


def test_clients_leave_file_descriptors_for_everything_else() -> None:
    assert process.most_connections(1_024) == 1_024 - process.RESERVED_FILES


def test_the_limit_of_files_is_raised_as_far_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: told.append(limits))
    assert process.raise_file_limit() == 4_096
    assert told == [(4_096, 4_096)]


def test_a_process_whose_end_hangs_is_ended_by_sigterm_all_the_same() -> None:
    program = (
        "import asyncio, os, signal\n"
        "from providers.server import process\n"
        "process.STOP_RESERVE = 0.2\n"
        "async def main():\n"
        "    asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)\n"
        "    await process.asked_to_stop(0)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=30, check=False)
    assert ended.returncode == -signal.SIGALRM
