"""`python -m tests.bench [NAME ...]`: run all benches but the long ones, or those named. docs/benchmarks.md says what
each measures."""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module

from tests.bench.table import Result, show, store
from tests.rigs.process import ROOT

NAMES = (
    "stop-latency",
    "hypervisor-calls",
    "sim-rush",
    "concurrent-500",
    "waiting-500",
    "overload-10000",
    "journal",
    "start-up",
    "kubernetes-quick",
    "kubernetes-2000",
    "kubernetes-settled-500",
    "vsphere-200",
    "vsphere-rush",
    "vsphere-idle-2000",
    "proxmox-500",
    "plans-2000",
)

LONG = ("deaf-2000",)
"""Each takes half an hour or more."""


def main() -> int:
    """0 if all could measure; figures are told, never judged."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES + LONG)}")
    names = parser.parse_args().names or NAMES
    for name in names:
        if name not in NAMES + LONG:
            parser.error(f"there is no bench {name}; there are {', '.join(NAMES + LONG)}")
    if len(names) == 1:
        _measure(names[0])
        return 0
    # Each in a process of its own: no bench finds the memory, the threads or the failure of another.
    commands = [[sys.executable, "-m", "tests.bench", name] for name in names]
    return max([subprocess.run(command, cwd=ROOT, check=False).returncode for command in commands])


def _measure(name: str) -> None:
    bench: Callable[[], Awaitable[Result]] = import_module(f"tests.bench.{name.replace('-', '_')}").bench
    result = asyncio.run(_awaited(bench))
    show(name, result)
    store(name, result)


async def _awaited(bench: Callable[[], Awaitable[Result]]) -> Result:
    return await bench()


if __name__ == "__main__":
    sys.exit(main())
