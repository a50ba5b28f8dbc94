"""What the controls of benches have in common: they are programs, so that what they use is their own."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tests.rigs.process import ROOT

INTERVAL = 2.0
"""Seconds between two looks of a control that polls, as other tools do."""


@dataclass(frozen=True)
class Work:
    """VMs to be shut down, by their names, and where they are."""

    url: str
    ca: str
    username: str
    password: str
    home: str
    names: Sequence[str]


@dataclass
class Told:
    """When the first VM was about to be asked, and when each was known to be off; seconds since 1970.

    CPU in seconds since then; RSS in MiB at the most, 0 if it is not known.
    """

    began: float = 0
    off: dict[str, float] = field(default_factory=dict)
    cpu: float = 0
    rss: float = 0


def work() -> Work:
    """What this program is to do."""
    return Work(**json.load(sys.stdin))


def tell(told: Told) -> None:
    """Tell the bench what became of it."""
    json.dump(asdict(told), sys.stdout)


async def run(program: str, todo: Work) -> Told:
    """Run one of these programs to its end.

    Raises:
        RuntimeError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.bench.{program}", cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    answer, _ = await process.communicate(json.dumps(asdict(todo)).encode())
    if process.returncode:
        raise RuntimeError(f"{program} ended with {process.returncode}")
    return Told(**json.loads(answer))
