"""What it costs to have an operation on disk, and what it saves that saves which come together share one fsync."""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from providers.core.adapter import Signal
from providers.core.journal import Journal
from providers.core.model import Kind, Operation, Request, Sent, State, Step
from tests.bench.table import RUN, Result, Row

SECONDS = 2.0
TOGETHER = (1, 10, 100, 500)


async def bench() -> Result:
    """The disk alone, then operations saved one by one, then ever more together."""
    RUN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RUN) as folder:  # on the checkout's disk: /tmp may be memory
        disk = await _per_second(1, lambda: _fsync(Path(folder, "raw")))
        rows: list[Row] = [{"": "write and fsync alone", "fsyncs/s": round(disk, 1)}]
        for together in TOGETHER:
            saves = await _saves_per_second(Path(folder, f"{together}.db"), together)
            rows.append(
                {
                    "": f"{together} saved together" if together > 1 else "saved one by one",
                    "per fsync of the disk": round(saves / disk, 2),
                    "saves/s": round(saves, 1),
                    "ms until on disk": round(together / saves * 1000, 3),
                }
            )
    record = len(_operation().model_dump_json(exclude_none=True))
    return Result(
        "operations saved", rows, [f"a record has {record} bytes; a graceful shutdown saves 3 times, a forced one 4"]
    )


async def _saves_per_second(path: Path, together: int) -> float:
    journal, operations = Journal(path), [_operation() for _ in range(together)]

    async def save() -> None:
        await asyncio.gather(*(journal.save(operation) for operation in operations))

    try:
        return await _per_second(together, save)
    finally:
        await journal.close()


async def _per_second(count: int, work: Callable[[], Awaitable[None]]) -> float:
    await work()  # the first one also makes the file
    began, done = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < SECONDS:
        await work()
        done += count
    return done / took


async def _fsync(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())


def _operation() -> Operation:
    """One that waits for its guest, as most are when they are saved."""
    now, vm = datetime.now(UTC), uuid4().hex
    request = Request(kind=Kind.SHUTDOWN, vm_id=vm, vm_name=f"vm-{vm[:4]}", request_id=uuid4().hex)
    said = ("the guest has until 2030-01-01T00:00:00+00:00", "asking the guest by GUEST_AGENT")
    return Operation(
        id=uuid4().hex,
        request=request,
        state=State.WAITING_FOR_GUEST,
        create_time=now,
        timeout=timedelta(seconds=60),
        grace_start=now,
        force_after=now + timedelta(seconds=60),
        sent=(Sent(number=1, time=now, signal=Signal.GUEST_AGENT),),
        steps=tuple(Step(time=now, state=State.WAITING_FOR_GUEST, message=message) for message in said),
    )
