import asyncio
import subprocess
import sys
import threading

import pytest

from providers.core.limiter import Lane
from tests.rigs.process import ROOT


async def test_a_call_returns_what_it_does() -> None:
    assert await Lane("test", 1).run(divmod, 7, 2) == (3, 1)


async def test_a_call_raises_what_it_does() -> None:
    with pytest.raises(ZeroDivisionError):
        await Lane("test", 1).run(divmod, 7, 0)


async def test_no_more_calls_than_places_run_at_once() -> None:
    lane, go, running = Lane("test", 2), threading.Event(), threading.Semaphore(0)

    def call() -> None:
        running.release()
        go.wait()

    calls = [asyncio.create_task(lane.run(call)) for _ in range(3)]
    await asyncio.to_thread(lambda: (running.acquire(), running.acquire()))
    assert lane.full
    assert not running.acquire(blocking=False)
    go.set()
    await asyncio.gather(*calls)
    assert not lane.full


async def test_a_caller_that_gives_up_leaves_its_place_taken() -> None:
    lane, go = Lane("test", 1), threading.Event()
    call = asyncio.create_task(lane.run(go.wait))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert lane.full
    go.set()
    assert await lane.run(lambda: "free again") == "free again"


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    program = (
        "import asyncio, threading\n"
        "from providers.core.limiter import Lane\n"
        "async def main():\n"
        "    call = asyncio.create_task(Lane('hangs', 1).run(threading.Event().wait))\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=30, check=False).returncode == 0
