import asyncio
import subprocess
import sys
import threading

import pytest

from providers.core.limiter import Limiter
from tests.rigs.process import ROOT


async def test_a_call_returns_what_it_does() -> None:
    assert await Limiter("test", 1).run(divmod, 7, 2) == (3, 1)


async def test_a_call_raises_what_it_does() -> None:
    with pytest.raises(ZeroDivisionError):
        await Limiter("test", 1).run(divmod, 7, 0)


async def test_no_more_calls_than_places_run_at_once() -> None:
    limiter, go, running = Limiter("test", 2), threading.Event(), threading.Semaphore(0)

    def call() -> None:
        running.release()
        go.wait()

    calls = [asyncio.create_task(limiter.run(call)) for _ in range(3)]
    await asyncio.to_thread(lambda: (running.acquire(), running.acquire()))
    assert limiter.full
    assert not running.acquire(blocking=False)
    go.set()
    await asyncio.gather(*calls)
    assert not limiter.full


async def test_a_caller_that_gives_up_leaves_its_place_taken() -> None:
    limiter, go = Limiter("test", 1), threading.Event()
    call = asyncio.create_task(limiter.run(go.wait))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert limiter.full
    go.set()
    assert await limiter.run(lambda: "free again") == "free again"


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    program = (
        "import asyncio, threading\n"
        "from providers.core.limiter import Limiter\n"
        "async def main():\n"
        "    call = asyncio.create_task(Limiter('hangs', 1).run(threading.Event().wait))\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=30, check=False).returncode == 0


async def test_a_thread_serves_one_call_after_the_other() -> None:
    limiter = Limiter("test", 1)
    assert len({await limiter.run(threading.get_ident) for _ in range(5)}) == 1


async def test_a_thread_that_has_nothing_to_do_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.core.limiter.IDLE_SECONDS", 0.01)
    thread = await Limiter("test", 1).run(threading.current_thread)
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_no_thread_is_idle_for_ever_however_calls_and_ends_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.core.limiter.IDLE_SECONDS", 0.0001)
    limiter = Limiter("test", 3)
    results = [await asyncio.gather(*(limiter.run(divmod, n, 7) for n in range(10))) for _ in range(100)]
    assert results == [[divmod(n, 7) for n in range(10)]] * 100


def no_thread_starts(patched: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    patched.setattr(threading.Thread, "start", fail)


async def test_a_thread_that_stays_serves_where_no_other_can_be_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.core.limiter.IDLE_SECONDS", 0.01)
    limiter = Limiter("test", 1, stays=True)
    thread = await limiter.run(threading.current_thread)
    await asyncio.to_thread(thread.join, 0.1)
    with monkeypatch.context() as patched:
        no_thread_starts(patched)
        assert await limiter.run(threading.current_thread) is thread
    limiter.close()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_a_thread_that_cannot_be_started_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = Limiter("test", 1)
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="new thread"):
        no_thread_starts(patched)
        await limiter.run(divmod, 7, 2)
    assert not limiter.full
    assert await limiter.run(divmod, 7, 2) == (3, 1)
